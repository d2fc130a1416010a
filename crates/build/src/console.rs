//! Output in the order of the steps, whatever the order in which they run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::{BuildEvent, EventSink};

/// What a step says while an earlier one still runs is kept up to this size; the rest is cut off.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// Brings the output of steps that run at once into their order.
#[derive(Clone)]
pub(crate) struct Console {
    events: EventSink,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Steps in their order; the first one's output goes out at once.
    lanes: Vec<Lane>,
    current: usize,
}

#[derive(Default)]
struct Lane {
    waiting: Vec<BuildEvent>,
    waiting_bytes: usize,
    done: bool,
}

/// What one step says.
#[derive(Clone)]
pub(crate) struct Voice {
    console: Console,
    lane: usize,
}

impl Console {
    pub fn new(events: EventSink, lanes: usize) -> Console {
        let state = State {
            lanes: (0..lanes).map(|_| Lane::default()).collect(),
            current: 0,
        };
        Console {
            events,
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub fn voice(&self, lane: usize) -> Voice {
        Voice {
            console: self.clone(),
            lane,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, lane: usize, event: BuildEvent) {
        let mut state = self.state();
        if lane <= state.current {
            // Under the lock: what waits goes out before what comes after it.
            return (self.events)(event);
        }
        let size = match &event {
            BuildEvent::Output(bytes) => bytes.len(),
            _ => 64,
        };
        let lane = &mut state.lanes[lane];
        let before = lane.waiting_bytes;
        lane.waiting_bytes += size;
        if lane.waiting_bytes <= WAITING_BYTES_MAX {
            lane.waiting.push(event);
        } else if before <= WAITING_BYTES_MAX {
            let note = "[output clipped: too much of it while an earlier step was running]\n";
            lane.waiting
                .push(BuildEvent::Output(Bytes::from_static(note.as_bytes())));
        }
    }

    fn finish(&self, lane: usize) {
        let mut state = self.state();
        state.lanes[lane].done = true;
        while state.lanes.get(state.current).is_some_and(|lane| lane.done) {
            state.current += 1;
            let current = state.current;
            if let Some(lane) = state.lanes.get_mut(current) {
                std::mem::take(&mut lane.waiting)
                    .into_iter()
                    .for_each(|event| (self.events)(event));
            }
        }
    }
}

impl Voice {
    /// A line; the newline is added.
    pub fn line(&self, text: impl std::fmt::Display) {
        self.send(BuildEvent::Output(Bytes::from(format!("{text}\n"))));
    }

    pub fn send(&self, event: BuildEvent) {
        self.console.send(self.lane, event);
    }

    /// Nothing more comes of this step.
    pub fn finish(&self) {
        self.console.finish(self.lane);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let sink: EventSink = {
            let said = said.clone();
            Arc::new(move |event| {
                if let BuildEvent::Output(bytes) = event {
                    said.lock()
                        .unwrap()
                        .push(String::from_utf8_lossy(&bytes).trim().to_owned());
                }
            })
        };
        let console = Console::new(sink, 3);
        let voices: Vec<Voice> = (0..3).map(|lane| console.voice(lane)).collect();
        voices[2].line("c1");
        voices[1].line("b1");
        voices[0].line("a1");
        voices[2].finish();
        voices[0].finish();
        voices[1].line("b2");
        assert_eq!(*said.lock().unwrap(), ["a1", "b1", "b2"]);
        voices[1].finish();
        assert_eq!(*said.lock().unwrap(), ["a1", "b1", "b2", "c1"]);
    }

    #[test]
    fn bounds_what_waits() {
        let total = Arc::new(Mutex::new(0));
        let sink: EventSink = {
            let total = total.clone();
            Arc::new(move |event| {
                if let BuildEvent::Output(bytes) = event {
                    *total.lock().unwrap() += bytes.len();
                }
            })
        };
        let console = Console::new(sink, 2);
        for _ in 0..40 {
            console
                .voice(1)
                .send(BuildEvent::Output(Bytes::from(vec![0; 1 << 20])));
        }
        console.voice(0).finish();
        assert!(*total.lock().unwrap() < WAITING_BYTES_MAX + 100);
    }
}
