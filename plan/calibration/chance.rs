//! Seeded chance for the calibration: the same seed, the same deploys.

/// SplitMix64: small, and good enough to draw counts with.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Above 0 and at most 1.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// A number from a normal distribution (Box and Muller).
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.unit(), self.unit());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// How many of `n` trials of chance `p` succeed. Exact by the gaps between
    /// successes while they are few; above 200 by the normal distribution,
    /// which is off by less there than ten thousand runs can show.
    pub(crate) fn binomial(&mut self, n: u64, p: f64) -> u64 {
        if p > 0.5 {
            return n - self.binomial(n, 1.0 - p);
        }
        if p <= 0.0 || n == 0 {
            return 0;
        }
        let mean = n as f64 * p;
        if mean > 200.0 {
            let drawn = mean + (mean * (1.0 - p)).sqrt() * self.normal();
            return (drawn.round().max(0.0) as u64).min(n);
        }
        let scale = (1.0 - p).ln();
        let (mut at, mut successes) = (0.0, 0);
        loop {
            at += (self.unit().ln() / scale).floor() + 1.0;
            if at > n as f64 {
                return successes;
            }
            successes += 1;
        }
    }

    /// How many events of a steady stream fall in an interval; by the normal
    /// distribution soon, because no test rests on how many requests come.
    pub(crate) fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 20.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (mut at, mut events) = (0.0, 0);
        loop {
            at -= self.unit().ln();
            if at > mean {
                return events;
            }
            events += 1;
        }
    }
}
