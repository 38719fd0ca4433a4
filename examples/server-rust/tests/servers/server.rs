//! Starting, building and stopping the servers.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const IN_RUST: &str = env!("CARGO_BIN_EXE_tilewright-server-rust");

/// A server that runs; killed when a test fails.
pub struct Server {
    child: Child,
    pub port: u16,
    /// Holds the program.
    _folder: Option<TempDir>,
}

/// A shipped pack.
pub fn pack(target: &str) -> String {
    format!("{ROOT}/kernels-generated/{target}")
}

/// What the server in Rust says when it does not start.
pub fn refusal_in_rust(arguments: &[&str]) -> String {
    let output = Command::new(IN_RUST).args(arguments).args(["--port", "0"]).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), words.lines().count()), (Some(1), 1), "{words}");
    words
}

impl Server {
    pub fn in_rust(target: &str) -> Self {
        Server::start(Path::new(IN_RUST), target, None)
    }

    /// Built with the library that cargo put beside this program; None, with a word, where that cannot be.
    pub fn in_c(target: &str) -> Option<Self> {
        let library = std::env::current_exe().unwrap().with_file_name("libtilewright.so");
        if !library.is_file() {
            eprintln!("skipped: cargo built no {}", library.display());
            return None;
        }
        let (beside, folder) = (library.parent().unwrap().display(), tempfile::tempdir().unwrap());
        let program = folder.path().join("server");
        let mut command = Command::new("cc");
        command.args(["-std=c11", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-pthread"]);
        command.arg(format!("-I{ROOT}/capi/include"));
        command.args(["server", "http", "pool"].map(|name| format!("{ROOT}/examples/server-c/{name}.c")));
        command.args([format!("-L{beside}"), "-ltilewright".into(), "-lm".into(), format!("-Wl,-rpath,{beside}")]);
        match command.arg("-o").arg(&program).output() {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                eprintln!("skipped: no C compiler: {error}");
                return None;
            }
        }
        Some(Server::start(&program, target, Some(folder)))
    }

    fn start(program: &Path, target: &str, folder: Option<TempDir>) -> Self {
        let mut command = Command::new(program);
        command.args(["--pack", &pack(target), "--device", "emulator", "--port", "0"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("listening on 127.0.0.1:").and_then(|port| port.parse().ok());
        Server { child, port: port.unwrap_or_else(|| panic!("the server says {line:?}")), _folder: folder }
    }

    /// Asks the server to end, which it does in order.
    pub fn stop(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "the server is gone before it was asked to go");
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail for a server that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
