//! Frames: what is written and synced as a whole, with its length, its number and its checksums.
//!
//! ```text
//! magic 3 | form 1 | length 4 | number 8 | checksum of the payload 4 | checksum of these 20 bytes 4
//! payload | end 4
//! ```
//!
//! One write of the log is one frame, whatever number of commits it has, and it is begun only when the frame
//! before it is on disk. So if a frame is not good and a later one is there, what is on disk was damaged. If
//! it is the last, the power may have gone while it was written: then the file is short, or a sector of it
//! was never written and reads as zeros. Such a frame was never acknowledged and is cut off, whichever of its
//! sectors are missing. Anything else is damage, too.
//!
//! That a sector of zeros was never written is true because none is ever written: where the payload would
//! make a sector that is empty but for a bit, all of the payload is masked, which the form tells. So a
//! flipped bit is never taken for a torn write. A disk that loses a whole sector of the last frame, and gives
//! zeros for it, is: nothing tells it from a power cut.

use std::borrow::Cow;

use super::codec::NoRecord;

/// How the parts of a file that is not good are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// The last write did not get through.
    Torn,
    /// It was good once, or is something else.
    Damaged,
}

// No zeros, so that the sectors in which a frame begins and ends are never empty.
const MAGIC: [u8; 3] = [0xb5, b'r', b'k'];
const END: [u8; 4] = [0xe5, b'e', b'n', b'd'];
/// The form of a payload that is written as it is.
const PLAIN: u8 = 1;
/// The form of one that is masked.
const MASKED: u8 = 2;
pub(super) const HEADER: usize = 24;
/// What a disk writes as a whole.
const SECTOR: usize = 512;
/// No payload is longer: a length beyond it is no length.
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

/// Ends a frame that is to be written at this place of its file: fills in its header.
pub(super) fn end(buffer: &mut Vec<u8>, at: u64, number: u64, salt: Salt) -> Result<(), NoRecord> {
    let length = buffer.len() - HEADER;
    let length = u32::try_from(length).ok().filter(|length| *length as usize <= LONGEST);
    let length = length.ok_or_else(|| NoRecord::new("it is longer than any frame may be"))?;
    buffer.extend(END);
    fill_in(buffer, PLAIN, (length, number), salt);
    if sectors(buffer, at).any(is_nearly_empty) {
        let payload = HEADER..HEADER + length as usize;
        mask(&mut buffer[payload], number, salt);
        fill_in(buffer, MASKED, (length, number), salt);
    }
    Ok(())
}

fn fill_in(frame: &mut [u8], form: u8, (length, number): (u32, u64), salt: Salt) {
    let (header, rest) = frame.split_at_mut(HEADER);
    header[..3].copy_from_slice(&MAGIC);
    header[3] = form;
    header[4..8].copy_from_slice(&length.to_le_bytes());
    header[8..16].copy_from_slice(&number.to_le_bytes());
    header[16..20].copy_from_slice(&salt.checksum(&rest[..length as usize]).to_le_bytes());
    let sum = salt.checksum(&header[..20]);
    header[20..].copy_from_slice(&sum.to_le_bytes());
}

/// Turns a payload into what looks random, or back.
fn mask(payload: &mut [u8], number: u64, salt: Salt) {
    let mut state = number ^ u64::from(salt.0).rotate_left(32);
    for chunk in payload.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (state ^ (state >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let bytes = (word ^ (word >> 32)).to_le_bytes();
        chunk.iter_mut().zip(bytes).for_each(|(byte, mask)| *byte ^= mask);
    }
}

/// A frame's header.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) number: u64,
    form: u8,
    length: usize,
    checksum: u32,
}

impl Head {
    /// If it is whole, and of a frame that can be.
    pub(super) fn parse(bytes: &[u8], salt: Salt) -> Option<Self> {
        Self::whole(bytes, salt).filter(Self::can_be)
    }

    fn whole(bytes: &[u8], salt: Salt) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER>()?;
        let number = |at: usize| header[at..].first_chunk::<4>().map(|four| u32::from_le_bytes(*four));
        if header[..3] != MAGIC || number(20)? != salt.checksum(&header[..20]) {
            return None;
        }
        let length = usize::try_from(number(4)?).unwrap_or(usize::MAX);
        let of = header[8..].first_chunk::<8>().map(|eight| u64::from_le_bytes(*eight))?;
        Some(Self { number: of, form: header[3], length, checksum: number(16)? })
    }

    fn can_be(&self) -> bool {
        self.length <= LONGEST && [PLAIN, MASKED].contains(&self.form)
    }

    /// How much follows the header.
    pub(super) fn rest(&self) -> usize {
        self.length + END.len()
    }

    /// The payload, if what follows the header is whole.
    pub(super) fn payload<'a>(&self, rest: &'a [u8], salt: Salt) -> Option<Cow<'a, [u8]>> {
        let payload = rest.get(..self.length)?;
        let ends = rest.get(self.length..self.rest())? == END;
        if !ends || salt.checksum(payload) != self.checksum {
            return None;
        }
        let mut payload = Cow::Borrowed(payload);
        if self.form == MASKED {
            mask(payload.to_mut(), self.number, salt);
        }
        Some(payload)
    }
}

/// The frame at the beginning of these bytes: its payload, and how long it is in all.
pub(super) fn read(bytes: &[u8], number: u64, salt: Salt) -> Option<(Cow<'_, [u8]>, usize)> {
    let head = Head::parse(bytes, salt).filter(|head| head.number == number)?;
    Some((head.payload(&bytes[HEADER..], salt)?, HEADER + head.rest()))
}

/// What is wrong at this place of a file, where the frame of this number should begin.
pub(super) fn judge(file: &[u8], at: usize, number: u64, salt: Salt) -> Bad {
    let rest = &file[at..];
    if later_frame(rest, number, salt) {
        return Bad::Damaged;
    }
    let length = match Head::whole(rest, salt) {
        Some(head) if head.number != number || !head.can_be() => return Bad::Damaged,
        Some(head) => HEADER + head.rest(),
        None if rest.len() < HEADER => return Bad::Torn,
        None => rest.len(),
    };
    let written = rest.get(..length);
    let is_torn = written.is_none_or(|frame| sectors(frame, at as u64).any(is_empty));
    if is_torn { Bad::Torn } else { Bad::Damaged }
}

/// Whether a frame follows that was begun after that of this number.
fn later_frame(bytes: &[u8], number: u64, salt: Salt) -> bool {
    let starts = bytes.windows(MAGIC.len()).enumerate().filter(|(_, start)| **start == MAGIC);
    starts.into_iter().any(|(at, _)| {
        // Its header is enough: it was written only when the frame before it was on disk.
        Head::whole(&bytes[at..], salt).is_some_and(|head| head.number > number)
    })
}

/// What lies in each of the disk's sectors of bytes that are at this place of a file.
fn sectors(bytes: &[u8], at: u64) -> impl Iterator<Item = &[u8]> {
    let before = (at % SECTOR as u64) as usize;
    let (first, others) = bytes.split_at(bytes.len().min(SECTOR - before));
    std::iter::once(first).chain(others.chunks(SECTOR))
}

fn is_empty(sector: &[u8]) -> bool {
    sector.iter().all(|byte| *byte == 0)
}

/// Whether one flipped bit could make it empty.
fn is_nearly_empty(sector: &[u8]) -> bool {
    let mut bits = sector.iter().map(|byte| byte.count_ones()).scan(0, |sum, bits| {
        *sum += bits;
        Some(*sum)
    });
    !bits.any(|sum| sum > 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALT: Salt = Salt(7);

    /// A file of frames, and where each begins.
    fn file(payloads: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
        let (mut file, mut starts) = (vec![0xff; 48], Vec::new());
        for (number, payload) in payloads.iter().enumerate() {
            let mut buffer = Vec::new();
            begin(&mut buffer);
            buffer.extend(payload);
            end(&mut buffer, file.len() as u64, number as u64, SALT).unwrap();
            starts.push(file.len());
            file.extend(buffer);
        }
        (file, starts)
    }

    /// The payloads of the good frames, and where they end.
    fn good(file: &[u8]) -> (Vec<Vec<u8>>, usize) {
        let (mut at, mut payloads) = (48, Vec::new());
        while let Some((payload, length)) = read(&file[at..], payloads.len() as u64, SALT) {
            payloads.push(payload.into_owned());
            at += length;
        }
        (payloads, at)
    }

    /// What values may have in them: long runs of zeros, with next to nothing between them, too.
    fn payload() -> impl Strategy<Value = Vec<u8>> {
        let run = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..700),
            (0..3000_usize).prop_map(|zeros| vec![0; zeros]),
            (0..3000_usize).prop_map(|zeros| [vec![0; zeros], vec![1]].concat()),
        ];
        proptest::collection::vec(run, 0..5).prop_map(|runs| runs.concat())
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(payload(), 1..5)
    }

    proptest! {
        #[test]
        fn frames_are_read_as_they_were_written(payloads in payloads()) {
            let (file, _) = file(&payloads);
            prop_assert_eq!(good(&file), (payloads, file.len()));
        }

        /// Wherever the last write ends, it is torn, and all before it is good.
        #[test]
        fn a_short_file_is_torn(payloads in payloads(), cut in any::<prop::sample::Index>()) {
            let (file, starts) = file(&payloads);
            let last = *starts.last().unwrap();
            let end = last + 1 + cut.index(file.len() - last - 1);
            let (read, at) = good(&file[..end]);
            prop_assert_eq!((read.len(), at), (payloads.len() - 1, last));
            prop_assert_eq!(judge(&file[..end], at, read.len() as u64, SALT), Bad::Torn);
        }

        /// Whichever sectors of the last write were never written, it is torn, and all before it is good.
        #[test]
        fn missing_sectors_are_torn(payloads in payloads(), lost in any::<prop::sample::Index>(), also in any::<u64>()) {
            let (mut file, starts) = file(&payloads);
            let last = *starts.last().unwrap();
            let sectors: Vec<_> = (last / SECTOR..file.len().div_ceil(SECTOR)).collect();
            let lost = lost.index(sectors.len());
            for (at, sector) in sectors.into_iter().enumerate() {
                if at == lost || also.rotate_right(at as u32) & 1 == 1 {
                    let end = file.len().min((sector + 1) * SECTOR);
                    file[(sector * SECTOR).max(last)..end].fill(0);
                }
            }
            let (read, at) = good(&file);
            prop_assert_eq!((read.len(), at), (payloads.len() - 1, last));
            prop_assert_eq!(judge(&file, at, read.len() as u64, SALT), Bad::Torn);
        }

        /// A sector that an earlier write had is not there any more: it was acknowledged.
        #[test]
        fn a_sector_lost_before_the_last_write_is_damage(
            payloads in proptest::collection::vec(payload(), 2..5),
            lost in any::<prop::sample::Index>(),
        ) {
            let (mut file, starts) = file(&payloads);
            let last = *starts.last().unwrap();
            let sector = (48 + lost.index(last - 48)) / SECTOR * SECTOR;
            let end = last.min(sector + SECTOR);
            file[sector.max(48)..end].fill(0);
            let (read, at) = good(&file);
            prop_assert!(read.len() < payloads.len() - 1);
            prop_assert_eq!(judge(&file, at, read.len() as u64, SALT), Bad::Damaged);
        }

        /// A flipped bit anywhere is damage: no frame of a whole file is ever taken for a torn one.
        #[test]
        fn a_flipped_bit_is_damage(payloads in payloads(), byte in any::<prop::sample::Index>(), bit in 0..8) {
            let (mut file, _) = file(&payloads);
            let byte = 48 + byte.index(file.len() - 48);
            file[byte] ^= 1_u8 << bit;
            let (read, at) = good(&file);
            prop_assert!(read.len() < payloads.len());
            prop_assert_eq!(judge(&file, at, read.len() as u64, SALT), Bad::Damaged);
        }
    }

    /// A header that is whole, whatever it says.
    fn header(form: u8, length: u32) -> Vec<u8> {
        let mut frame = vec![0; HEADER];
        fill_in(&mut frame, form, (0, 1), SALT);
        frame[4..8].copy_from_slice(&length.to_le_bytes());
        let sum = SALT.checksum(&frame[..20]);
        frame[20..].copy_from_slice(&sum.to_le_bytes());
        frame
    }

    #[test]
    fn a_length_beyond_the_bound_is_neither_written_nor_believed() {
        // The system gives such memory only where something is written to it.
        let mut buffer = vec![0; HEADER + LONGEST + 1];
        assert!(end(&mut buffer, 0, 1, SALT).is_err());
        assert_eq!(buffer.len(), HEADER + LONGEST + 1, "nothing was made of it");
        let longest = u32::try_from(LONGEST).unwrap();
        for length in [longest + 1, u32::MAX] {
            // Neither is it the end of a file that is short, nor one with a sector that was not written.
            for follows in [0, 2000] {
                let file = [header(PLAIN, length), vec![0; follows]].concat();
                assert!(Head::parse(&file, SALT).is_none() && read(&file, 1, SALT).is_none());
                assert_eq!(judge(&file, 0, 1, SALT), Bad::Damaged);
            }
        }
        assert!(Head::parse(&header(PLAIN, longest), SALT).is_some());
        assert_eq!(judge(&header(PLAIN, longest), 0, 1, SALT), Bad::Torn);
        assert_eq!(judge(&header(9, 10), 0, 1, SALT), Bad::Damaged, "a form of the future");
    }
}
