/// Numbers that look random and are the same in every run (splitmix64).
///
/// ```
/// use rkube_store::testing::Dice;
/// let (mut one, mut other) = (Dice::seeded(7), Dice::seeded(7));
/// assert_eq!(one.roll(100), other.roll(100));
/// ```
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// What falls follows from the seed.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below this one, which is not zero.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.next() % sides.max(1)
    }

    /// A length up to this one, which may be it.
    pub fn roll_up_to(&mut self, length: usize) -> usize {
        usize::try_from(self.roll(length as u64 + 1)).unwrap_or(length)
    }

    /// Yes or no.
    pub fn coin(&mut self) -> bool {
        self.roll(2) == 0
    }
}
