//! A creation in steps: each leaves word how to take it back, and a failure takes all of them back.

/// The way back. Dropped without [`Undo::keep`] it is walked, last step first.
#[derive(Default)]
pub(crate) struct Undo(Vec<Box<dyn FnOnce() + Send>>);

impl Undo {
    /// Adds the way back of a step that succeeded.
    pub fn push(&mut self, step: impl FnOnce() + Send + 'static) {
        self.0.push(Box::new(step));
    }

    /// The creation succeeded: nothing is taken back.
    pub fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        while let Some(step) = self.0.pop() {
            step();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn steps_are_taken_back_in_reverse_unless_kept() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let fill = |undo: &mut Undo| {
            for n in 1..=3 {
                let log = log.clone();
                undo.push(move || log.lock().unwrap().push(n));
            }
        };
        let mut undo = Undo::default();
        fill(&mut undo);
        drop(undo);
        assert_eq!(*log.lock().unwrap(), [3, 2, 1]);
        let mut undo = Undo::default();
        fill(&mut undo);
        undo.keep();
        assert_eq!(log.lock().unwrap().len(), 3);
    }
}
