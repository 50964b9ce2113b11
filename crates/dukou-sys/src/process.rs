//! This process: whose it is, and memory that it no longer needs.

/// The user that this process acts as.
pub fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns memory that the C library's allocator holds free to the system. ONNX Runtime allocates
/// there: without this, the memory of a model that is gone stays with the process.
pub fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` takes no pointer, keeps every live allocation and may be called from any
    // thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets this process open as many descriptors as it may, and gives how many that are.
pub fn raise_descriptors() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let found = getrlimit(Resource::Nofile);
    // Refused, the old limit stands.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: found.maximum, ..found });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// From here on no core of this process is written, and no other process of the same user may look into
/// its memory.
pub fn forbid_dumps() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // A pipe that takes cores (`core_pattern` with `|`) does not ask for the limit.
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// From here on this thread runs, and reads and writes, when nobody else wants to. Threads that it starts
/// inherit that, and there is no way back: only for a thread that ends when its work is done.
pub fn go_last() {
    // Where the system refuses, the work is done all the same, at the usual priority.
    let _refused = rustix::process::setpriority_process(None, 19);
    #[cfg(target_os = "linux")]
    {
        /// `IOPRIO_WHO_PROCESS`, which with 0 is the calling thread.
        const THREAD: libc::c_int = 1;
        /// `IOPRIO_CLASS_IDLE`, shifted to its place.
        const IDLE: libc::c_int = 3 << 13;
        // SAFETY: `ioprio_set` takes three numbers, no pointer, and changes this thread's priority alone.
        unsafe {
            libc::syscall(libc::SYS_ioprio_set, THREAD, 0, IDLE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_goes_last_and_the_others_do_not() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        let meek = std::thread::spawn(move || {
            go_last();
            niceness()
        });
        assert_eq!((meek.join().unwrap(), niceness()), (19, before));
    }

    #[test]
    fn memory_in_use_survives_a_trim() {
        let kept: Vec<u64> = (0..100_000).collect();
        give_memory_back();
        assert_eq!(kept.iter().sum::<u64>(), 4_999_950_000);
    }
}
