//! Seeded random numbers: a run with the same seed sends the same bodies at the same times.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
pub struct Random(u64);

impl Random {
    /// A generator for this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 uniform bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1]: never zero, so that its logarithm is finite.
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// An exponential gap with this mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_gaps_have_their_mean_and_spread() {
        let mut random = Random::new(7);
        let count = 200_000;
        let gaps: Vec<f64> = (0..count).map(|_| random.exponential(2.5)).collect();
        let mean = gaps.iter().sum::<f64>() / f64::from(count);
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / f64::from(count);
        // The standard error of the mean is 2.5 / sqrt(200000) = 0.0056; five of them.
        assert!((mean - 2.5).abs() < 0.028, "{mean}");
        // An exponential's deviation equals its mean.
        assert!((variance.sqrt() - 2.5).abs() < 0.06, "{variance}");
        assert!(gaps.iter().all(|gap| gap.is_finite() && *gap >= 0.0));
    }
}
