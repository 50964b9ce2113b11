//! The end of the process, without losing a request.
//!
//! A drain stops accepting (the listeners stay with the supervisor, so newcomers queue in the kernel
//! for the next engine), answers what is in flight, and says so on every connection: `Connection: close`
//! on HTTP/1, GOAWAY on HTTP/2. It is begun by SIGTERM, SIGINT, `POST /drain`, or the supervisor's end.

use tokio::sync::watch;

/// Whether the process is ending. Shared by every thread; begun once, never taken back.
#[derive(Debug)]
pub struct Drain(watch::Sender<bool>);

impl Default for Drain {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Drain {
    /// Begins it. Doing so again changes nothing.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it begins.
    pub async fn begun(&self) {
        let mut receiver = self.0.subscribe();
        // The sender is `self`: it cannot be gone while this waits.
        let _begun = receiver.wait_for(|begun| *begun).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_begins_once_for_everybody() {
        let drain = Drain::default();
        assert!(!drain.has_begun());
        drain.begin();
        drain.begin();
        drain.begun().await;
        assert!(drain.has_begun());
    }
}
