//! What a round is asked for and what comes of it.

use std::time::{Duration, Instant};

use crate::poller::cpu_seconds;

/// How long a round is: so many messages, or so much time.
#[derive(Clone, Copy)]
pub struct Amount {
    messages: u64,
    time: Option<Duration>,
}

impl Amount {
    pub fn messages(messages: u64) -> Self {
        Self {
            messages,
            time: None,
        }
    }

    /// How many it is, if it is not a time.
    pub fn count(self) -> Option<usize> {
        usize::try_from(self.messages)
            .ok()
            .filter(|_| self.time.is_none())
    }

    /// `1.5s` or `100000`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(seconds) = text.strip_suffix('s') {
            let time = Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?;
            return Some(Self {
                messages: u64::MAX,
                time: Some(time),
            });
        }
        Some(Self::messages(text.parse().ok()?))
    }
}

/// A round that is running: counts, and says whether it goes on.
pub struct Round {
    amount: Amount,
    begin: Instant,
    cpu: f64,
    started: u64,
    pub now: Instant,
    pub report: Report,
}

impl Round {
    pub fn begin(amount: Amount) -> Self {
        let now = Instant::now();
        Self {
            amount,
            begin: now,
            cpu: cpu_seconds(),
            started: 0,
            now,
            report: Report::default(),
        }
    }

    /// Reads the clock: once for each batch of events is exact enough to stop by.
    pub fn tick(&mut self) {
        self.now = Instant::now();
    }

    /// Whether another message may start; it counts as started then.
    pub fn start(&mut self) -> bool {
        let go_on = self.started < self.amount.messages
            && self
                .amount
                .time
                .is_none_or(|time| self.now - self.begin < time);
        self.started += u64::from(go_on);
        go_on
    }

    /// Another message is on its way, whatever the amount says.
    pub fn owe(&mut self) {
        self.started += 1;
    }

    pub fn finish(&mut self, since: Instant) {
        self.report.messages += 1;
        self.report.latency.add(since.elapsed());
    }

    /// Whether everything that started has finished.
    pub fn complete(&self) -> bool {
        self.report.messages == self.started
    }

    pub fn end(mut self) -> Report {
        self.report.seconds = self.begin.elapsed().as_secs_f64();
        self.report.load_cpu = cpu_seconds() - self.cpu;
        self.report
    }
}

#[derive(Default)]
pub struct Report {
    pub messages: u64,
    pub resumed: u64,
    seconds: f64,
    load_cpu: f64,
    latency: Histogram,
}

impl Report {
    pub fn json(&self) -> String {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| self.latency.quantile(share));
        format!(
            "{{\"messages\": {}, \"seconds\": {:.9}, \"load_cpu\": {:.9}, \"resumed\": {}, \
             \"p50_us\": {p50:.2}, \"p99_us\": {p99:.2}, \"p999_us\": {p999:.2}}}",
            self.messages, self.seconds, self.load_cpu, self.resumed
        )
    }
}

/// Buckets that grow with the value: each is at most 1/128 of it wide.
struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

const PRECISION: u32 = 7;

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; (65 - PRECISION as usize) << PRECISION],
            total: 0,
        }
    }
}

impl Histogram {
    fn add(&mut self, latency: Duration) {
        let value = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(value)] += 1;
        self.total += 1;
    }

    /// In microseconds.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    fn quantile(&self, share: f64) -> f64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return middle(bucket) / 1000.0;
            }
        }
        0.0
    }
}

fn bucket(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(PRECISION + 1);
    let step = value >> shift;
    usize::try_from((u64::from(shift) << PRECISION) + step).unwrap_or(0)
}

#[allow(clippy::cast_precision_loss)]
fn middle(bucket: usize) -> f64 {
    let shift = (bucket >> PRECISION).saturating_sub(1);
    let step = bucket - (shift << PRECISION);
    (step as f64 + 0.5) * (1u64 << shift) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_percent() {
        let mut histogram = Histogram::default();
        for micros in 1..=10_000 {
            histogram.add(Duration::from_micros(micros));
        }
        for (share, expected) in [(0.5, 5000.0), (0.99, 9900.0), (0.999, 9990.0)] {
            let found = histogram.quantile(share);
            assert!((found / expected - 1.0).abs() < 0.01, "{share}: {found}");
        }
    }

    #[test]
    fn every_value_has_a_bucket() {
        for value in [0, 1, 127, 128, 255, 256, 1 << 40, u64::MAX] {
            assert!(bucket(value) < Histogram::default().counts.len(), "{value}");
        }
    }
}
