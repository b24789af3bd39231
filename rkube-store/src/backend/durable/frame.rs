//! Frames: what is written and synced as a whole, with its length, its number and its checksums.
//!
//! ```text
//! magic 4 | length 4 | number 8 | checksum of the payload 4 | checksum of these 20 bytes 4 | payload | end 4
//! ```
//!
//! A frame is written only when the one before it is on disk. So if one is not good and a later one is
//! there, what is on disk was damaged. If it is the last, the power may have gone while it was written:
//! then the file is short, or a sector of it was never written and reads as zeros. Anything else is damage,
//! too. Neither the magic nor the end has a zero in it, so that every sector of a whole frame that has no
//! run of zeros in its payload has something in it.

/// How the parts of a file that is not good are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// The last write did not get through.
    Torn,
    /// It was good once, or is something else.
    Damaged,
}

const MAGIC: [u8; 4] = [0xb5, b'r', b'k', 0x01];
const END: [u8; 4] = [0xe5, b'e', b'n', b'd'];
pub(super) const HEADER: usize = 24;
/// What a disk writes as a whole.
const SECTOR: usize = 512;
/// No frame is longer: a length beyond it is no length.
pub(super) const LONGEST: usize = 1 << 30;

/// Where frames belong: two stores, or two files of one, have other checksums, so that no frame is taken
/// for one of another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Salt(pub(super) u32);

impl Salt {
    pub(super) fn checksum(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
    }
}

/// Begins a frame in an empty buffer; the payload follows.
pub(super) fn begin(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(HEADER, 0);
}

/// Ends a frame: fills in its header.
pub(super) fn end(buffer: &mut Vec<u8>, number: u64, salt: Salt) {
    let (header, payload) = buffer.split_at_mut(HEADER);
    header[..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    header[8..16].copy_from_slice(&number.to_le_bytes());
    header[16..20].copy_from_slice(&salt.checksum(payload).to_le_bytes());
    let sum = salt.checksum(&header[..20]);
    header[20..].copy_from_slice(&sum.to_le_bytes());
    buffer.extend(END);
}

/// A frame's header.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) number: u64,
    length: usize,
    checksum: u32,
}

impl Head {
    /// If it is whole.
    pub(super) fn parse(bytes: &[u8], salt: Salt) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER>()?;
        let number = |at: usize| header[at..].first_chunk::<4>().map(|four| u32::from_le_bytes(*four));
        if header[..4] != MAGIC || number(20)? != salt.checksum(&header[..20]) {
            return None;
        }
        let length = usize::try_from(number(4)?).ok().filter(|length| *length <= LONGEST)?;
        let of = header[8..].first_chunk::<8>().map(|eight| u64::from_le_bytes(*eight))?;
        Some(Self { number: of, length, checksum: number(16)? })
    }

    /// How much follows the header.
    pub(super) fn rest(&self) -> usize {
        self.length + END.len()
    }

    /// The payload, if what follows the header is whole.
    pub(super) fn payload<'a>(&self, rest: &'a [u8], salt: Salt) -> Option<&'a [u8]> {
        let payload = rest.get(..self.length)?;
        let ends = rest.get(self.length..self.rest())? == END;
        (ends && salt.checksum(payload) == self.checksum).then_some(payload)
    }
}

/// The frame at the beginning of these bytes: its payload, and how long it is in all.
pub(super) fn read(bytes: &[u8], number: u64, salt: Salt) -> Option<(&[u8], usize)> {
    let head = Head::parse(bytes, salt).filter(|head| head.number == number)?;
    Some((head.payload(&bytes[HEADER..], salt)?, HEADER + head.rest()))
}

/// What is wrong at this place of a file, where the frame of this number should begin.
pub(super) fn judge(file: &[u8], at: usize, number: u64, salt: Salt) -> Bad {
    let rest = &file[at..];
    if later_frame(rest, number, salt) {
        return Bad::Damaged;
    }
    let end = match Head::parse(rest, salt) {
        Some(head) if head.number != number => return Bad::Damaged,
        Some(head) => at + HEADER + head.rest(),
        None if rest.len() < HEADER => return Bad::Torn,
        None => file.len(),
    };
    if end > file.len() || has_empty_sector(file, at, end) { Bad::Torn } else { Bad::Damaged }
}

/// Whether a frame follows that was begun after that of this number.
fn later_frame(bytes: &[u8], number: u64, salt: Salt) -> bool {
    let starts = bytes.windows(MAGIC.len()).enumerate().filter(|(_, four)| **four == MAGIC);
    starts.into_iter().any(|(at, _)| {
        // Its header is enough: it was written only when the frame before it was on disk.
        Head::parse(&bytes[at..], salt).is_some_and(|head| head.number > number)
    })
}

/// Whether a sector, or what these bounds leave of it, has nothing but zeros.
fn has_empty_sector(file: &[u8], mut at: usize, end: usize) -> bool {
    while at < end {
        let next = end.min((at / SECTOR + 1) * SECTOR);
        if file[at..next].iter().all(|byte| *byte == 0) {
            return true;
        }
        at = next;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALT: Salt = Salt(7);

    fn file(payloads: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
        let (mut file, mut starts) = (Vec::new(), Vec::new());
        for (number, payload) in payloads.iter().enumerate() {
            let mut buffer = Vec::new();
            begin(&mut buffer);
            buffer.extend(payload);
            end(&mut buffer, number as u64, SALT);
            starts.push(file.len());
            file.extend(buffer);
        }
        (file, starts)
    }

    fn good(file: &[u8]) -> (usize, usize) {
        let (mut at, mut count) = (0, 0);
        while let Some((_, length)) = read(&file[at..], count as u64, SALT) {
            at += length;
            count += 1;
        }
        (count, at)
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(1..=255_u8, 0..2000), 1..5)
    }

    proptest! {
        /// Wherever the last write ends, it is torn, and all before it is good.
        #[test]
        fn a_short_file_is_torn(payloads in payloads(), cut in any::<prop::sample::Index>()) {
            let (file, starts) = file(&payloads);
            let last = *starts.last().unwrap();
            let end = last + 1 + cut.index(file.len() - last - 1);
            let (count, at) = good(&file[..end]);
            prop_assert_eq!((count, at), (payloads.len() - 1, last));
            prop_assert_eq!(judge(&file[..end], at, count as u64, SALT), Bad::Torn);
        }

        /// Sectors of the last write that were never written are torn.
        #[test]
        fn missing_sectors_are_torn(payloads in payloads(), lost in any::<prop::sample::Index>()) {
            let (mut file, starts) = file(&payloads);
            let last = *starts.last().unwrap();
            let sectors: Vec<_> = (last / SECTOR..file.len().div_ceil(SECTOR)).collect();
            let sector = sectors[lost.index(sectors.len())] * SECTOR;
            let end = file.len().min(sector + SECTOR);
            file[sector.max(last)..end].fill(0);
            let (count, at) = good(&file);
            prop_assert_eq!((count, at), (payloads.len() - 1, last));
            prop_assert_eq!(judge(&file, at, count as u64, SALT), Bad::Torn);
        }

        /// A flipped bit anywhere is damage: no frame of a whole file is ever taken for a torn one.
        #[test]
        fn a_flipped_bit_is_damage(payloads in payloads(), byte in any::<prop::sample::Index>(), bit in 0..8) {
            let (mut file, _) = file(&payloads);
            let byte = byte.index(file.len());
            file[byte] ^= 1_u8 << bit;
            let (count, at) = good(&file);
            prop_assert!(count < payloads.len());
            prop_assert_eq!(judge(&file, at, count as u64, SALT), Bad::Damaged);
        }
    }
}
