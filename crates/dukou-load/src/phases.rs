//! Named parts of a run. Whoever drives the run writes a name on our stdin when one begins; a request
//! belongs to the phase in which it was due.

use std::{
    io::BufRead,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

/// More than this many are not kept apart.
const MOST: usize = 64;
/// What the first is called, until a name comes.
const FIRST: &str = "first";

/// The phases so far.
#[derive(Debug)]
pub struct Phases {
    begun: Mutex<Vec<(String, Instant)>>,
    count: AtomicUsize,
}

impl Phases {
    /// One phase, from `start` on.
    pub fn new(start: Instant) -> Arc<Self> {
        let begun = Mutex::new(vec![(FIRST.to_owned(), start)]);
        Arc::new(Self { begun, count: AtomicUsize::new(1) })
    }

    /// A phase begins now.
    pub fn begin(&self, name: &str) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if begun.len() < MOST {
            begun.push((name.to_owned(), Instant::now()));
            self.count.store(begun.len(), Ordering::Release);
        }
    }

    /// Reads names from stdin until it ends, on a thread of its own.
    pub fn follow_stdin(self: &Arc<Self>) {
        let phases = Arc::clone(self);
        std::thread::spawn(move || {
            for name in std::io::stdin().lock().lines().map_while(Result::ok) {
                phases.begin(name.trim());
            }
        });
    }

    /// Their names, in order.
    pub fn names(&self) -> Vec<String> {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.iter().map(|(name, _)| name.clone()).collect()
    }

    /// When each began, the first not before `earliest`.
    pub fn starts_from(&self, earliest: Instant) -> Vec<Instant> {
        self.starts().into_iter().map(|start| start.max(earliest)).collect()
    }

    fn starts(&self) -> Vec<Instant> {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.iter().map(|(_, start)| *start).collect()
    }
}

/// One thread's view: it takes the lock only when a phase has begun since it last looked.
pub struct PhaseView {
    phases: Arc<Phases>,
    starts: Vec<Instant>,
}

impl PhaseView {
    /// A view of these.
    pub fn new(phases: &Arc<Phases>) -> Self {
        Self { phases: Arc::clone(phases), starts: phases.starts() }
    }

    /// Which phase a request due at `due` belongs to.
    pub fn at(&mut self, due: Instant) -> usize {
        if self.phases.count.load(Ordering::Acquire) != self.starts.len() {
            self.starts = self.phases.starts();
        }
        self.starts.iter().rposition(|start| *start <= due).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_belongs_to_the_phase_in_which_it_was_due() {
        let start = Instant::now();
        let phases = Phases::new(start);
        let mut view = PhaseView::new(&phases);
        assert_eq!(view.at(Instant::now()), 0);
        phases.begin("during");
        assert_eq!(view.at(Instant::now()), 1);
        assert_eq!(view.at(start), 0);
        for _ in 0..100 {
            phases.begin("more");
        }
        assert_eq!(phases.names().len(), MOST);
    }
}
