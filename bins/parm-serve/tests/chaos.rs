//! Real processes that die, stop, answer garbage or nothing, while queries come: as long as one
//! instance of the model is well, none of them fails. And an instance that sabotages, beside clients that send
//! what is wrong: no answer of another client is.
//!
//! 20 seconds of it; `PARM_CHAOS=300` (`make test-chaos`) is five minutes.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Server, ask, infer};
use flate2::write::GzEncoder;
use parm_testkit::Saboteur;
use parm_testkit::saboteur::TOO_LARGE;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A backend: two floats in, their sum out, in about two milliseconds.
const BACKEND: &str = r#"{"models": [{"name": "toy", "placement": "pooled",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}],
    "instances": [{"synthetic": {"behavior": {"service": {"distribution": "constant", "ms": 2}}}, "capacity": 8}]}]}"#;

/// What is before them. Each is asked for the deployed model and its parity model, which for sums is
/// the same.
fn front(backends: &[SocketAddr]) -> String {
    let remote = |address: &SocketAddr| {
        format!(r#"{{"remote": {{"url": "http://{address}", "encoding": "binary"}}, "capacity": 4}}"#)
    };
    let remotes: Vec<String> = backends.iter().map(remote).collect();
    format!(
        r#"{{"models": [{{"name": "toy", "placement": "pooled", "names": {{"parity": ["toy"]}},
            "inputs": [{{"name": "x", "datatype": "FP32", "shape": [2]}}],
            "outputs": [{{"name": "y", "datatype": "FP32", "shape": [1]}}],
            "redundancy": {{"policy": "coded", "code": {{"name": "sum", "k": 2}}}},
            "deadline_ms": 10000, "call_timeout_ms": 500, "attempts": 20,
            "ejection": {{"failures": 2, "probe_ms": 100}},
            "instances": [{}]}}]}}"#,
        remotes.join(", ")
    )
}

/// A server of something else: it accepts, and then says garbage, half an answer, or nothing.
fn impostor(stop: &Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let Ok(mut stream) = stream else { continue };
            thread::spawn(move || {
                let mut head = [0; 4096];
                let Ok(read) = stream.read(&mut head) else { return };
                // It looks ready, so that it gets work.
                let asks = |what: &[u8]| head[..read].windows(what.len()).any(|found| found == what);
                let reply: &[u8] = if asks(b"/ready") {
                    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                } else {
                    match number % 4 {
                        0 => b"\x00\xff\x00 not HTTP at all",
                        1 => b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"outputs\"",
                        2 => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
                        // A black hole.
                        _ => {
                            let _ = stream.read(&mut head);
                            b""
                        }
                    }
                };
                let _ = stream.write_all(reply);
            });
        }
    });
    address
}

/// The way to a server, on which all packets vanish while it is dark.
struct Wire {
    address: SocketAddr,
    dark: Arc<AtomicBool>,
}

impl Wire {
    fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let dark = Arc::new(AtomicBool::new(false));
        let night = Arc::clone(&dark);
        thread::spawn(move || {
            for here in listener.incoming().map_while(Result::ok) {
                // Nobody is at the other end: the connection is closed.
                let Ok(there) = TcpStream::connect(to) else { continue };
                let (Ok(back), Ok(forth)) = (here.try_clone(), there.try_clone()) else { continue };
                for (from, into) in [(here, there), (forth, back)] {
                    let night = Arc::clone(&night);
                    thread::spawn(move || pump(from, into, &night));
                }
            }
        });
        Self { address, dark }
    }
}

fn pump(mut from: TcpStream, mut into: TcpStream, dark: &AtomicBool) {
    let (mut bytes, mut torn) = ([0; 4096], false);
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        // What had a hole would be garbage: nothing comes through any more, as if it were resent for ever.
        torn |= dark.load(Ordering::Relaxed);
        if !torn && into.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    for end in [from, into] {
        let _ = end.shutdown(Shutdown::Both);
    }
}

/// Asks until it is told to stop; counts answers, and keeps what went wrong.
fn client(front: SocketAddr, seed: u64, stop: &AtomicBool, answered: &AtomicU64) -> Vec<String> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut wrong = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let [a, b] = [random.random_range(0..1000), random.random_range(0..1000)];
        match infer(front, "toy", &format!("{a}, {b}")) {
            Ok(sum) if (sum - f64::from(a + b)).abs() < 0.01 => {
                answered.fetch_add(1, Ordering::Relaxed);
            }
            other => wrong.push(format!("{a} + {b}: {other:?}")),
        }
        thread::sleep(Duration::from_millis(2));
    }
    wrong
}

fn seconds() -> u64 {
    std::env::var("PARM_CHAOS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

#[test]
fn no_query_fails_while_an_instance_is_well() {
    let seconds = seconds();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("backend.json");
    std::fs::write(&config, BACKEND).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut backends: Vec<Server> = (0..4).map(|_| Server::start(&config, &[])).collect();
    let wires: Vec<Wire> = backends.iter().map(|backend| Wire::new(backend.http)).collect();
    let mut addresses: Vec<SocketAddr> = wires.iter().map(|wire| wire.address).collect();
    // One that nobody ever accepts a connection of.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    addresses.extend([impostor(&stop), deaf.local_addr().unwrap()]);
    let config_front = folder.path().join("front.json");
    std::fs::write(&config_front, front(&addresses)).unwrap();
    let server = Server::start(&config_front, &[]);
    server.ready();

    let answered = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..4)
        .map(|seed| {
            let (stop, answered, http) = (Arc::clone(&stop), Arc::clone(&answered), server.http);
            thread::spawn(move || client(http, seed, &stop, &answered))
        })
        .collect();
    // A client that says half of a request, and then nothing.
    let mut loris = TcpStream::connect(server.http).unwrap();
    loris
        .write_all(b"POST /v2/models/toy/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        .unwrap();

    let mut random = ChaCha8Rng::seed_from_u64(7);
    let since = Instant::now();
    let mut told = Vec::new();
    while since.elapsed() < Duration::from_secs(seconds) {
        // The first is left alone: at most three of four are ill at once.
        let which = random.random_range(1..backends.len());
        let pause = Duration::from_millis(random.random_range(100..1500));
        match random.random_range(0..3) {
            0 => {
                told.push(format!("kill -9 of {which}"));
                let http = backends[which].http.to_string();
                backends[which].kill();
                thread::sleep(pause);
                backends[which] = Server::start(&config, &["--http", &http]);
            }
            1 => {
                told.push(format!("SIGSTOP of {which}"));
                backends[which].signal("STOP");
                thread::sleep(pause);
                backends[which].signal("CONT");
            }
            _ => {
                told.push(format!("black hole before {which}"));
                wires[which].dark.store(true, Ordering::Relaxed);
                thread::sleep(pause);
                wires[which].dark.store(false, Ordering::Relaxed);
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    let wrong: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let answered = answered.load(Ordering::Relaxed);
    println!("{answered} answers in {seconds} s, {} failed; {}", wrong.len(), told.join(", "));
    assert!(wrong.is_empty(), "{} of {answered} failed, as {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    assert!(answered > 20 * seconds, "only {answered} answers in {seconds} s");
}

/// A server before honest instances and saboteurs.
fn front_of_saboteurs(over_http: &[Saboteur], over_grpc: &[Saboteur]) -> String {
    let remote = |scheme: &str, encoding: &str, of: &Saboteur| {
        let address = of.address;
        format!(r#"{{"remote": {{"url": "{scheme}://{address}", "encoding": "{encoding}"}}, "capacity": 4}}"#)
    };
    let over_http = over_http.iter().map(|of| remote("http", "json", of));
    let remotes: Vec<String> =
        over_http.chain(over_grpc.iter().map(|of| remote("grpc", "grpc", of))).collect();
    // Often enough in rotation to do harm.
    format!(
        r#"{{"limits": {{"body_ms": 2000}}, "models": [{{"name": "toy", "placement": "pooled",
            "inputs": [{{"name": "x", "datatype": "FP32", "shape": [2]}}],
            "outputs": [{{"name": "y", "datatype": "FP32", "shape": [1]}}],
            "batch": {{"max_size": 4, "delay_ms": 1}},
            "redundancy": {{"policy": "coded", "code": {{"name": "sum", "k": 2}}}},
            "answer": {{"when": "first"}}, "deadline_ms": 10000, "attempts": 8,
            "ejection": {{"failures": 3, "probe_ms": 5, "max_share": 0.4}},
            "instances": [{}]}}]}}"#,
        remotes.join(", ")
    )
}

/// The body of a request of one row.
fn row(row: &str) -> String {
    format!(r#"{{"inputs": [{{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [{row}]}}]}}"#)
}

/// A body of one row that is small on its way and large when it is unpacked, and its head.
fn packed() -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(&vec![b' '; 16 << 20]).unwrap();
    packer.write_all(row("1, 2").as_bytes()).unwrap();
    let body = packer.finish().unwrap();
    let head = format!(
        "POST /v2/models/toy/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-encoding: gzip\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}

/// Asks whether the server lives and for its metrics; returns how long each answer took.
fn prober(front: SocketAddr, stop: &AtomicBool) -> Vec<Duration> {
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        for path in ["/v2/health/live", "/metrics"] {
            let begin = Instant::now();
            assert_eq!(ask(front, "GET", path, "").0, 200, "{path}");
            took.push(begin.elapsed());
        }
        thread::sleep(Duration::from_millis(20));
    }
    took.sort_unstable();
    took
}

/// Sends what is wrong: rows that are refused or not finite, long headers, slow bodies; and bodies that take
/// long to unpack.
fn bad_client(front: SocketAddr, seed: u64, stop: &AtomicBool) -> Vec<String> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut wrong = Vec::new();
    let (path, packed) = ("/v2/models/toy/infer", packed());
    while !stop.load(Ordering::Relaxed) {
        match random.random_range(0..5) {
            0 => {
                let (code, body) = ask(front, "POST", path, &row(&format!("{TOO_LARGE}, 1")));
                if code != 400 {
                    wrong.push(format!("a row that all refuse: {code} {body}"));
                }
            }
            1 => {
                let (code, body) = ask(front, "POST", path, &row("NaN, 1"));
                // The model's own answer, in which there is no number.
                if code != 200 || body.contains("parm_reconstructed") {
                    wrong.push(format!("a row that is not finite: {code} {body}"));
                }
            }
            2 => {
                let (long, body) = ("x".repeat(20_000), row("1, 2"));
                let length = body.len();
                let mut stream = TcpStream::connect(front).unwrap();
                let head = format!(
                    "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: {long}\r\n\
                     content-length: {length}\r\n\r\n{body}"
                );
                stream.write_all(head.as_bytes()).unwrap();
                let mut reply = String::new();
                stream.read_to_string(&mut reply).unwrap();
                if !reply.contains("\"data\":[3.0]") {
                    wrong.push(format!("a long header: {reply}"));
                }
            }
            3 => {
                let mut stream = TcpStream::connect(front).unwrap();
                stream.write_all(&packed).unwrap();
                let mut reply = String::new();
                stream.read_to_string(&mut reply).unwrap();
                if !reply.contains("\"data\":[3.0]") {
                    wrong.push(format!("a packed body: {reply}"));
                }
            }
            _ => {
                let mut stream = TcpStream::connect(front).unwrap();
                let _ = stream.write_all(
                    b"POST /v2/models/toy/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{",
                );
                thread::sleep(Duration::from_millis(20));
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
    wrong
}

/// How much longer than asked a run may take until every fault came.
const LONGEST_EXTRA: Duration = Duration::from_mins(2);

/// The resident memory of a process, in KiB, and its open files.
fn holds(pid: u32) -> (u64, usize) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident = resident.trim().trim_end_matches(" kB").parse().unwrap();
    (resident, std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count())
}

#[test]
fn saboteurs_and_bad_clients_make_no_answer_wrong_and_no_good_request_fail() {
    let seconds = seconds();
    let folder = tempfile::tempdir().unwrap();
    let over_http = [None, None, Some(11)].map(Saboteur::http);
    let over_grpc = [None, Some(12)].map(Saboteur::grpc);
    let saboteurs = [&over_http[2], &over_grpc[1]];
    let config = folder.path().join("front.json");
    std::fs::write(&config, front_of_saboteurs(&over_http, &over_grpc)).unwrap();
    let mut server = Server::start(&config, &[]);
    server.ready();

    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let good: Vec<_> = (0..6)
        .map(|seed| {
            let (stop, answered, http) = (Arc::clone(&stop), Arc::clone(&answered), server.http);
            thread::spawn(move || client(http, seed, &stop, &answered))
        })
        .collect();
    let bad: Vec<_> = (0..2)
        .map(|seed| {
            let (stop, http) = (Arc::clone(&stop), server.http);
            thread::spawn(move || bad_client(http, 100 + seed, &stop))
        })
        .collect();
    let prober = {
        let (stop, http) = (Arc::clone(&stop), server.http);
        thread::spawn(move || prober(http, &stop))
    };
    let pid = server.process.id();
    thread::sleep(Duration::from_secs(seconds) / 4);
    let before = holds(pid);
    thread::sleep(Duration::from_secs(seconds) * 3 / 4);
    // A saboteur that is out of rotation is asked seldom: the run goes on until it has done everything.
    let since = Instant::now();
    let all_done = || saboteurs.iter().flat_map(|of| of.counts()).all(|(_, count)| count > 0);
    while !all_done() && since.elapsed() < LONGEST_EXTRA {
        thread::sleep(Duration::from_millis(100));
    }
    let after = holds(pid);
    stop.store(true, Ordering::Relaxed);
    let wrong: Vec<String> = good.into_iter().chain(bad).flat_map(|client| client.join().unwrap()).collect();
    let waits = prober.join().unwrap();
    let [median, most_of_all, longest] = [50, 99, 100].map(|share| waits[(waits.len() - 1) * share / 100]);
    println!("health and metrics: {median:.1?}, P99 {most_of_all:.1?}, at most {longest:.1?}");
    let answered = answered.load(Ordering::Relaxed);
    let (_, metrics) = server.ask("GET", "/metrics", "");
    let mismatched: f64 = metrics
        .lines()
        .filter(|line| line.starts_with("parm_mismatched_answers_total{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    println!(
        "{answered} answers in {seconds} s, {} wrong or failed; {mismatched} were of other calls; sabotage: {:?}; \
         {before:?} and {after:?} KiB and files",
        wrong.len(),
        saboteurs.map(Saboteur::counts)
    );
    assert!(wrong.is_empty(), "{} of {answered}, as {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    assert!(answered > 20 * seconds, "only {answered} answers in {seconds} s");
    assert!(mismatched > 0.0);
    assert!(all_done(), "not all faults came");
    // What a busy machine does to a short run is not the server's doing.
    assert!(seconds < 60 || most_of_all < Duration::from_millis(100), "health: P99 {most_of_all:?}");
    assert!(after.0 < 2 * before.0 + (64 << 10) && after.1 < 400, "{before:?} {after:?}");
    server.signal("TERM");
    assert!(server.process.wait().unwrap().success(), "SIGTERM");
}
