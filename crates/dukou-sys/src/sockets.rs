//! Listeners: inherited by systemd's convention, or opened here; and the supervisor's lifeline.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt},
};

/// The first descriptor that is passed.
const FIRST: RawFd = 3;

/// What the environment says was passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// `LISTEN_PID`: whose they are; anybody's where absent.
    pub pid: Option<String>,
    /// `LISTEN_FDS`: how many.
    pub count: Option<String>,
    /// `LISTEN_FDNAMES`: their names, colon-separated.
    pub names: Option<String>,
    /// `DUKOU_LIFELINE_FD`: the read end of a pipe that closes with the supervisor.
    pub lifeline: Option<String>,
}

impl Passed {
    /// What this process's environment says.
    pub fn from_environment() -> Self {
        let read = |name| std::env::var(name).ok();
        Self {
            pid: read("LISTEN_PID"),
            count: read("LISTEN_FDS"),
            names: read("LISTEN_FDNAMES"),
            lifeline: read("DUKOU_LIFELINE_FD"),
        }
    }

    /// Descriptors and names of the listeners, read as text alone.
    fn listeners(&self, own_pid: u32) -> Result<Vec<(RawFd, String)>, SocketError> {
        if self.pid.as_ref().is_some_and(|pid| *pid != own_pid.to_string()) {
            return Ok(Vec::new());
        }
        let Some(count) = &self.count else {
            return Ok(Vec::new());
        };
        let count: RawFd = count
            .parse()
            .ok()
            .filter(|count| (0..=1024).contains(count))
            .ok_or_else(|| SocketError::Count(count.clone()))?;
        let names: Vec<&str> = match self.names.as_deref() {
            None | Some("") => Vec::new(),
            Some(names) => names.split(':').collect(),
        };
        (0..count)
            .map(|index| {
                let name = names.get(index as usize).filter(|name| !name.is_empty());
                let name = name.ok_or(SocketError::Unnamed { count, names: names.len() })?;
                Ok((FIRST + index, (*name).to_owned()))
            })
            .collect()
    }
}

/// A listener that the starter opened, with the name it gave.
#[derive(Debug)]
pub struct Listener {
    /// The name; the serving table binds a policy to it.
    pub name: String,
    /// The socket, not blocking, closed in children.
    pub socket: TcpListener,
}

/// What was passed is not what was said.
#[derive(Debug)]
pub enum SocketError {
    /// `LISTEN_FDS` is not a small number.
    Count(String),
    /// Fewer names than descriptors.
    Unnamed {
        /// What `LISTEN_FDS` says.
        count: RawFd,
        /// How many names there are.
        names: usize,
    },
    /// A descriptor is not a listening socket.
    NotListening {
        /// Which.
        descriptor: RawFd,
        /// Its name.
        name: String,
    },
    /// `DUKOU_LIFELINE_FD` is not an open descriptor.
    Lifeline(String),
    /// The system refuses to say or do something with a descriptor.
    System(io::Error),
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(text) => {
                write!(f, "`LISTEN_FDS` is `{text}`, which is not a number from 0 to 1024")
            }
            Self::Unnamed { count, names } => {
                write!(f, "`LISTEN_FDS` says {count} listeners and `LISTEN_FDNAMES` names {names}")
            }
            Self::NotListening { descriptor, name } => {
                write!(f, "descriptor {descriptor} (`{name}`) is not a listening socket")
            }
            Self::Lifeline(text) => {
                write!(f, "`DUKOU_LIFELINE_FD` is `{text}`, which is not an open descriptor")
            }
            Self::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SocketError {}

/// Takes over the listeners that were passed. Call once, before anything else opens descriptors.
///
/// # Errors
/// What is said does not hold; nothing is taken over then.
pub fn inherited_listeners(passed: &Passed) -> Result<Vec<Listener>, SocketError> {
    let said = passed.listeners(std::process::id())?;
    for (descriptor, name) in &said {
        // SAFETY: the borrow ends before this iteration does; a descriptor that is not open makes
        // the call fail, nothing else.
        let borrowed = unsafe { BorrowedFd::borrow_raw(*descriptor) };
        if !sockopt::socket_acceptconn(borrowed).unwrap_or(false) {
            let (descriptor, name) = (*descriptor, name.clone());
            return Err(SocketError::NotListening { descriptor, name });
        }
    }
    said.into_iter()
        .map(|(descriptor, name)| {
            // SAFETY: by the convention the starter passed this descriptor for us to own, it was seen
            // above to be a listening socket, and this function is called once.
            let socket = unsafe { TcpListener::from_raw_fd(descriptor) };
            fcntl_setfd(&socket, FdFlags::CLOEXEC)
                .map_err(|error| SocketError::System(error.into()))?;
            socket.set_nonblocking(true).map_err(SocketError::System)?;
            Ok(Listener { name, socket })
        })
        .collect()
}

/// Connections that wait in the kernel: a burst of them is no reason to refuse any.
const BACKLOG: i32 = 4096;

/// Opens a listener.
///
/// # Errors
/// What the system said: the address is taken, or not one of this machine.
pub fn open_listener(name: String, address: SocketAddr) -> io::Result<Listener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(Listener { name, socket: socket.into() })
}

/// Takes over the read end of the supervisor's pipe, where there is one. Call once.
///
/// # Errors
/// The variable does not hold an open descriptor above the standard ones.
pub fn inherited_lifeline(passed: &Passed) -> Result<Option<OwnedFd>, SocketError> {
    let Some(text) = &passed.lifeline else {
        return Ok(None);
    };
    let wrong = || SocketError::Lifeline(text.clone());
    let descriptor: RawFd = text.parse().ok().filter(|fd| *fd >= FIRST).ok_or_else(wrong)?;
    // SAFETY: as above: only asked whether it is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    fcntl_setfd(borrowed, FdFlags::CLOEXEC).map_err(|_| wrong())?;
    // SAFETY: the supervisor passed it for us to own, it is open, and this function is called once.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    fn passed(count: &str, names: &str) -> Passed {
        Passed { count: Some(count.into()), names: Some(names.into()), ..Passed::default() }
    }

    #[test]
    fn descriptors_begin_at_three_and_have_names() {
        let said = passed("2", "http:metrics").listeners(1).unwrap();
        assert_eq!(said, [(3, "http".to_owned()), (4, "metrics".to_owned())]);
        assert!(Passed::default().listeners(1).unwrap().is_empty());
    }

    #[test]
    fn another_process_s_descriptors_are_left_alone() {
        let foreign = Passed { pid: Some("1".into()), ..passed("1", "http") };
        assert!(foreign.listeners(2).unwrap().is_empty());
        assert_eq!(foreign.listeners(1).unwrap().len(), 1);
    }

    #[test]
    fn a_listener_that_is_opened_takes_connections() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(open) = open_listener("http".into(), address.parse().unwrap()) else {
                assert!(address.starts_with('['), "{address}"); // a machine without IPv6
                continue;
            };
            let bound = open.socket.local_addr().unwrap();
            assert!(std::net::TcpStream::connect(bound).is_ok());
            assert!(open_listener("again".into(), bound).is_err(), "{bound} is taken");
        }
    }

    #[test]
    fn what_does_not_hold_is_refused() {
        for (count, names) in [("x", "http"), ("-1", ""), ("99999", ""), ("2", "http"), ("1", "")] {
            assert!(passed(count, names).listeners(1).is_err(), "{count} {names}");
        }
        assert!(
            inherited_lifeline(&Passed { lifeline: Some("1".into()), ..Passed::default() })
                .is_err()
        );
        let open = std::fs::File::open("/dev/null").unwrap();
        let closed = open.as_raw_fd() + 1000;
        let lifeline = Some(closed.to_string());
        assert!(inherited_lifeline(&Passed { lifeline, ..Passed::default() }).is_err());
    }
}
