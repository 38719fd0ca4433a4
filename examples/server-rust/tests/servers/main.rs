//! Both example servers on the emulator: many clients at once, every result held to the f64 reference, bad requests in
//! between, and an orderly end.

mod client;
mod problem;
mod server;

use std::thread;

use client::{Answer, Ending, raw, request};
use problem::Problem;
use server::Server;

const CLIENTS: usize = 8;

/// More shapes than clients, small ones: the first of a shape is prepared, the others find it ready.
fn problems() -> Vec<Problem> {
    vec![
        Problem::gemm([5, 24, 40]),
        Problem::gemm([64, 64, 64]),
        Problem::gemm([1, 7, 9]),
        Problem::gemm([70, 16, 8]),
        Problem::attention([1, 20, 33, 4, 2], 64, true),
        Problem::attention([2, 3, 17, 1, 1], 64, true),
        Problem::attention([1, 9, 70, 2, 1], 128, false),
    ]
}

/// Requests that no server can serve, and the statuses that fit; 0 where nothing need be answered.
fn bad_requests() -> Vec<(Vec<u8>, &'static [u16])> {
    let post = |path: &str, body: &[u8]| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let attention = "/attention?batch=1&sq=1&sk=1";
    vec![
        (post("/nothing", b""), &[404]),
        (b"GET /gemm?m=1&n=1&k=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(), &[405]),
        (post("/gemm", b""), &[400]),
        (post("/gemm?m=1&n=1", b""), &[400]),
        (post("/gemm?m=0&n=1&k=1", b""), &[400]),
        (post("/gemm?m=-5&n=1&k=1", b""), &[400]),
        (post("/gemm?m=1x&n=1&k=1", b"1234"), &[400]),
        (post("/gemm?m=99999999999999999999&n=1&k=1", b""), &[400]),
        (post("/gemm?m=32768&n=32768&k=32768", b""), &[413]),
        (post("/gemm?m=32768&n=32768&k=1", &vec![0; 131072]), &[413]),
        (post("/gemm?m=5&n=5&k=5", b"too short"), &[400]),
        (post("/attention?batch=1&sq=1&sk=1&hq=1&hkv=1", b""), &[400]),
        (post(&format!("{attention}&hq=3&hkv=2&d=128"), &[0; 2 * 128 * 7]), &[422]),
        (post(&format!("{attention}&hq=1&hkv=1&d=80"), &[0; 2 * 80 * 3]), &[422]),
        (post(&format!("{attention}&hq=1&hkv=1&d=64&causal=7"), &[0; 2 * 64 * 3]), &[400]),
        (b"POST /gemm?m=1&n=1&k=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(), &[400, 413]),
        (b"POST /gemm?m=1&n=1&k=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\n".to_vec(), &[413]),
        (b"POST /gemm?m=1&n=1&k=1 HTTP/1.1\r\nHost: x\r\nContent-Length: -4\r\n\r\n1234".to_vec(), &[400]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 no HTTP\r\n\r\n".to_vec(), &[400]),
        ([b"GET /health HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 600_000]].concat(), &[0, 400, 431]),
        // Clients that hang up: before a word, within the head, within the body.
        (b"".to_vec(), &[0]),
        (b"POST /gemm?m=".to_vec(), &[0]),
        (b"POST /gemm?m=1&n=1&k=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n12".to_vec(), &[0, 400]),
    ]
}

/// Clients at once, each with every problem from another one on, and bad requests in between.
fn serve_and_stop(mut server: Server) {
    let (problems, bad, port) = (problems(), bad_requests(), server.port);
    thread::scope(|scope| {
        for first in 0..CLIENTS {
            let (problems, bad) = (&problems, &bad);
            scope.spawn(move || {
                for turn in 0..problems.len() {
                    let problem = &problems[(first + turn) % problems.len()];
                    let answer = request(port, &problem.path, &problem.body);
                    assert_eq!(answer.status, 200, "{}: {}", problem.path, answer.text());
                    problem.check(&answer.body);
                    for (bytes, expected) in bad.iter().skip(first + turn * CLIENTS).step_by(problems.len() * CLIENTS) {
                        refused(port, bytes, expected);
                    }
                }
            });
        }
    });
    let Answer { status, body } = raw(port, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", Ending::Waits);
    assert_eq!((status, body.as_slice()), (200, b"ok, on emulator\n".as_slice()));
    server.stop();
}

fn refused(port: u16, bytes: &[u8], expected: &[u16]) {
    // Those that may go without an answer are those that do not wait for one.
    let ending = if expected.contains(&0) { Ending::HangsUp } else { Ending::Waits };
    let answer = raw(port, bytes, ending);
    let what = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]);
    assert!(expected.contains(&answer.status), "{what:?} is answered with {}: {}", answer.status, answer.text());
    assert!(answer.body.is_empty() || answer.text().lines().count() == 1, "{what:?}: {}", answer.text());
}

#[test]
fn the_server_in_rust_serves_and_stops() {
    serve_and_stop(Server::in_rust("sm90"));
}

#[test]
fn the_server_in_c_serves_and_stops() {
    let Some(server) = Server::in_c("sm80") else { return };
    serve_and_stop(server);
}

#[test]
fn a_pack_or_device_that_is_not_there_is_said_in_words() {
    let say = server::refusal_in_rust;
    assert!(say(&["--pack", "/nowhere", "--device", "emulator"]).contains("/nowhere"));
    let pack = server::pack("sm80");
    assert!(say(&["--pack", &pack, "--device", "tpu"]).contains("`tpu` is no device: expected cuda:N or emulator"));
}
