//! Two sides that take turns, and the table of how they did.

use std::time::{Duration, Instant};

/// Turns of each side before counting.
const WARM_UP: usize = 3;

/// What was measured so far.
pub struct Report {
    chosen: Vec<String>,
    rows: Vec<Row>,
}

struct Row {
    measure: String,
    ours: f64,
    peer: f64,
    unit: &'static str,
    /// Highest ratio of ours to the peer's that meets the goal; none: for information.
    goal: Option<f64>,
}

/// One side of a contest: does the work once.
pub type Side<'a> = &'a mut dyn FnMut();

impl Report {
    /// With words of which a measure's name must contain one; none: all measures.
    pub fn new(chosen: Vec<String>) -> Report {
        Report {
            chosen,
            rows: Vec::new(),
        }
    }

    /// Whether this measure was asked for.
    pub fn wants(&self, measure: &str) -> bool {
        self.chosen.is_empty()
            || self
                .chosen
                .iter()
                .any(|word| measure.contains(word.as_str()))
    }

    /// Lets both sides do their work in turns and takes the median of each.
    pub fn race(
        &mut self,
        measure: &str,
        runs: usize,
        goal: Option<f64>,
        ours: Side<'_>,
        peer: Side<'_>,
    ) {
        if !self.wants(measure) {
            return;
        }
        let (mut our_times, mut peer_times) = (Vec::new(), Vec::new());
        for run in 0..runs + WARM_UP {
            let (our_time, peer_time) = (time(ours), time(peer));
            if run >= WARM_UP {
                our_times.push(our_time);
                peer_times.push(peer_time);
            }
        }
        let (ours, peer) = (median_ms(our_times), median_ms(peer_times));
        self.add(measure, "ms", ours, peer, goal);
    }

    /// Adds a figure that is not a time.
    pub fn add(
        &mut self,
        measure: &str,
        unit: &'static str,
        ours: f64,
        peer: f64,
        goal: Option<f64>,
    ) {
        eprintln!("{measure}: {ours:.2} {unit} against {peer:.2} {unit}");
        self.rows.push(Row {
            measure: measure.to_owned(),
            ours,
            peer,
            unit,
            goal,
        });
    }

    /// The table.
    pub fn print(&self) {
        println!("| measure | Wharf | peer | ratio | goal |");
        println!("|---|---:|---:|---:|---|");
        for row in &self.rows {
            let ratio = row.ours / row.peer;
            let goal = row.goal.map_or_else(String::new, |goal| {
                format!("≤ {goal}: {}", if ratio <= goal { "met" } else { "missed" })
            });
            println!(
                "| {} | {:.2} {unit} | {:.2} {unit} | {ratio:.3} | {goal} |",
                row.measure,
                row.ours,
                row.peer,
                unit = row.unit
            );
        }
    }
}

fn time(side: Side<'_>) -> Duration {
    let start = Instant::now();
    side();
    start.elapsed()
}

fn median_ms(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}
