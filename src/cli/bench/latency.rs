//! How long things took, and how often: a histogram that tells three digits apart.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::env::time::Duration;

/// The longest time that is told apart, in microseconds.
const MAX_US: u64 = 120_000_000;
/// Where a distribution is read off, in per cent.
const PERCENTILES: [f64; 13] = [
    0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99, 100.0,
];

/// Latencies.
#[derive(Debug, Clone)]
pub(super) struct Latencies {
    histogram: Histogram<u64>,
}

impl Latencies {
    pub(super) fn new() -> Self {
        // The bounds are constants that it accepts.
        let histogram = Histogram::new_with_max(MAX_US, 3);
        Self {
            histogram: histogram.unwrap_or_else(|_| unreachable!("valid bounds")),
        }
    }

    pub(super) fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(MAX_US);
        self.histogram.saturating_record(micros.max(1));
    }

    pub(super) fn add(&mut self, others: &Self) {
        self.histogram.add(&others.histogram).ok(); // of the same bounds
    }

    pub(super) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// In microseconds, such that `quantile` of all took no longer.
    pub(super) fn at(&self, quantile: f64) -> u64 {
        self.histogram.value_at_quantile(quantile)
    }

    fn max(&self) -> u64 {
        self.histogram.max()
    }

    /// Per cent, and microseconds that so many took at most: what a report draws.
    fn distribution(&self) -> Vec<(f64, u64)> {
        let at = |percent: &f64| (*percent, self.at(percent / 100.0));
        PERCENTILES.iter().map(at).collect()
    }
}

/// Latencies as they are printed, in microseconds.
#[derive(Debug, Serialize)]
pub(super) struct Spread {
    pub(super) p50_us: u64,
    pub(super) p95_us: u64,
    pub(super) p99_us: u64,
    pub(super) max_us: u64,
    /// Per cent, and microseconds that so many took at most.
    distribution_us: Vec<(f64, u64)>,
}

impl Spread {
    pub(super) fn of(latencies: &Latencies) -> Self {
        Self {
            p50_us: latencies.at(0.5),
            p95_us: latencies.at(0.95),
            p99_us: latencies.at(0.99),
            max_us: latencies.max(),
            distribution_us: latencies.distribution(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_all_that_was_recorded_and_added() {
        let (mut some, mut others) = (Latencies::new(), Latencies::new());
        for millis in 1..=50 {
            some.record(Duration::from_millis(millis));
            others.record(Duration::from_millis(50 + millis));
        }
        some.add(&others);
        assert_eq!(some.count(), 100);
        let near = |got: u64, wanted: u64| got.abs_diff(wanted) <= wanted / 500;
        assert!(near(some.at(0.5), 50_000), "{}", some.at(0.5));
        assert!(near(some.max(), 100_000), "{}", some.max());
        let drawn = some.distribution();
        assert!(drawn.windows(2).all(|pair| pair[0].1 <= pair[1].1));
    }
}
