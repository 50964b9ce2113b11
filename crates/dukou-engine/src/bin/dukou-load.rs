//! `dukou-load`: sends requests to a server and says exactly what became of each.
//!
//! The program is the library `dukou-load`'s; it stands here because a wheel takes the programs of one
//! package.

fn main() -> std::process::ExitCode {
    dukou_load::main()
}
