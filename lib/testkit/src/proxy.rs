//! A TCP proxy in front of a real server, with the faults of `parm_workload::faults`.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use parm_workload::faults::{Behavior, Conditions, Fate, Shared, Synthetic};

/// The faults that several proxies share: racks that go down together, and transfers between two of them.
pub(crate) type Among = Arc<Mutex<Shared>>;

/// A proxy that lives as long as the test's process.
///
/// The first bytes of the server after bytes of the client are the beginning of an answer. The behavior
/// decides what happens to it: it is delayed (`service`, longer in slow periods and during transfers;
/// `late`), the connection is cut (`errors`), or nothing is passed on any more (`hangs`). While the proxy has
/// crashed, all connections are closed.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// The address for clients.
    pub address: SocketAddr,
}

#[derive(Clone)]
struct Faulty {
    behavior: Arc<Mutex<Synthetic>>,
    among: Option<(Among, usize)>,
    origin: Instant,
}

impl Proxy {
    /// Starts a proxy in front of a server. It is number `instance` of the proxies that share the seed, and
    /// the faults `among`.
    ///
    /// # Panics
    /// If the machine has no free port, or the behavior is invalid.
    #[must_use]
    pub fn start(
        server: SocketAddr,
        behavior: Behavior,
        seed: u64,
        instance: usize,
        among: Option<Among>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let synthetic = Synthetic::new(behavior, seed, instance as u64).expect("a valid behavior");
        let faulty = Faulty {
            behavior: Arc::new(Mutex::new(synthetic)),
            among: among.map(|among| (among, instance)),
            origin: Instant::now(),
        };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let faulty = faulty.clone();
                // The client sees how the connection ends.
                thread::spawn(move || faulty.converse(&client, server));
            }
        });
        Self { address }
    }
}

impl Faulty {
    fn now<T>(&self, of: impl FnOnce(&mut Synthetic, u64, Conditions) -> T) -> T {
        // One at a time, so that times never decrease.
        let mut behavior = self.behavior.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.origin.elapsed().as_nanos() as u64;
        let around = self.among.as_ref().map_or_else(Conditions::default, |(among, number)| {
            among.lock().unwrap_or_else(PoisonError::into_inner).around(now, *number)
        });
        of(&mut behavior, now, around)
    }

    fn is_up(&self) -> bool {
        self.now(Synthetic::is_up)
    }

    fn converse(&self, client: &TcpStream, server: SocketAddr) -> io::Result<()> {
        if !self.is_up() {
            return Ok(());
        }
        let server = TcpStream::connect(server)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        // So that a crash is also noticed while nothing is sent.
        server.set_read_timeout(Some(Duration::from_millis(20)))?;
        let asked = Mutex::new(false);
        let set = |asked: &Mutex<bool>, to| {
            std::mem::replace(&mut *asked.lock().unwrap_or_else(PoisonError::into_inner), to)
        };
        let cut = || {
            let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                let _ = forward(client, &server, |bytes| {
                    if bytes > 0 {
                        set(&asked, true);
                    }
                    Pass::On
                });
                cut();
            });
            let _ = forward(&server, client, |bytes| self.answer(bytes > 0 && set(&asked, false)));
            cut();
        });
        Ok(())
    }

    /// What happens to bytes of the server; `begins` is true at the beginning of an answer.
    fn answer(&self, begins: bool) -> Pass {
        if begins {
            match self.now(|behavior, now, around| behavior.call(now, 1, around)) {
                Fate::Answer(time) => thread::sleep(Duration::from_nanos(time)),
                Fate::Fail(time) => {
                    thread::sleep(Duration::from_nanos(time));
                    return Pass::Cut;
                }
                Fate::Hang => return Pass::Swallow,
            }
        }
        if self.is_up() { Pass::On } else { Pass::Cut }
    }
}

/// What happens to bytes.
enum Pass {
    /// They are passed on.
    On,
    /// They and all further ones are dropped.
    Swallow,
    /// The connection ends.
    Cut,
}

/// Passes bytes on until their end. `decide` gets the number of bytes, 0 while nothing is sent.
fn forward(
    mut from: &TcpStream,
    mut to: &TcpStream,
    mut decide: impl FnMut(usize) -> Pass,
) -> io::Result<()> {
    let (mut bytes, mut swallows) = (vec![0; 64 << 10], false);
    loop {
        let read = match from.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => 0,
            Err(error) => return Err(error),
        };
        match if swallows { Pass::Swallow } else { decide(read) } {
            Pass::On => to.write_all(&bytes[..read])?,
            Pass::Swallow => swallows = true,
            Pass::Cut => return Ok(()),
        }
    }
}
