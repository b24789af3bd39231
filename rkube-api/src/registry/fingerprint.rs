//! A short stable mark of a text.

/// Sixty-four bits that tell texts apart, the same in every run and release (FNV-1a, which std's hashers
/// do not promise). Not for secrets.
///
/// ```
/// use rkube_api::registry::fingerprint;
/// assert_ne!(fingerprint(b"a"), fingerprint(b"b"));
/// ```
pub fn fingerprint(text: &[u8]) -> u64 {
    text.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
