//! Many modelled deploys of one cell, added up.

use crate::chance::Chance;
use crate::deploy::{Beside, Cell, Ending, run};

/// What became of the deploys of a cell.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) runs: u64,
    pub(crate) good: u64,
    pub(crate) inconclusive: u64,
    pub(crate) good_too_soon: u64,
    /// How often one look at the end would have found it.
    pub(crate) once: u64,
    /// At how many requests of the new release it was taken back, by judge.
    pub(crate) ours: Vec<u64>,
    pub(crate) fixed: Vec<u64>,
    pub(crate) fisher: Vec<u64>,
    pub(crate) buckets: Vec<u64>,
}

impl Tally {
    /// Runs a cell; the seed of a run is the cell's seed and its number.
    pub(crate) fn of(cell: &Cell, runs: u64, seed: u64, beside: Beside) -> Self {
        let mut tally = Self::default();
        for number in 0..runs {
            let mut chance = Chance::new(seed.wrapping_mul(1_000_003) ^ (number << 20));
            tally.add(&run(cell, &mut chance, beside));
        }
        tally
    }

    fn add(&mut self, ending: &Ending) {
        self.runs += 1;
        self.good += u64::from(ending.good && ending.aborted.is_none());
        self.inconclusive += u64::from(ending.inconclusive && ending.aborted.is_none());
        self.good_too_soon += ending.good_too_soon;
        self.once += u64::from(ending.once);
        self.ours.extend(ending.aborted);
        self.fixed.extend(ending.fixed);
        self.fisher.extend(ending.fisher);
        self.buckets.extend(ending.buckets);
    }

    /// The share of runs, in percent.
    pub(crate) fn percent(&self, of: u64) -> f64 {
        of as f64 * 100.0 / self.runs as f64
    }

    pub(crate) fn aborted(&self) -> f64 {
        self.percent(self.ours.len() as u64)
    }
}
