//! An engine and its connections, under any operations of its owner and of the peers.

use std::collections::HashSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use mantou_engine::{
    Engine, Event, Events, Framing, Notice, Read, Settings, Target, Token, Written,
};

use crate::Script;

/// Bytes that show where they belong: a prime length.
const PATTERN: usize = 251;
const SIZES: [usize; 8] = [0, 1, 7, 250, 5_000, 65_536, 65_537, 300_000];
const BUFFER: usize = 64 * 1024;

/// Every byte stays in its place, and every connection ends once.
pub fn operations(data: &[u8]) {
    let mut script = Script(data);
    let mut world = World::new(script.byte());
    while !script.is_over() {
        let operation = script.byte();
        world.act(operation, script.byte());
    }
    world.ends();
}

struct World {
    engine: Engine,
    events: Events,
    buffer: Vec<u8>,
    connections: Vec<Connection>,
}

struct Connection {
    token: Token,
    peer: Option<UnixStream>,
    /// Counted from each side's beginning.
    accepted: usize,
    received: usize,
    sent: usize,
    taken: usize,
    corks: u32,
    ended: bool,
    terminated: bool,
    closed: bool,
}

impl World {
    fn new(ways: u8) -> Self {
        let mut world = Self {
            engine: Engine::new().unwrap(),
            events: Events::default(),
            buffer: vec![0; BUFFER],
            connections: Vec::new(),
        };
        for number in 0..=ways % 3 {
            world.connect(ways >> number & 4 != 0);
        }
        world
    }

    fn connect(&mut self, allow_half_open: bool) {
        let (ours, peer) = UnixStream::pair().unwrap();
        peer.set_nonblocking(true).unwrap();
        let settings = Settings {
            allow_half_open,
            no_delay: false,
            keep_alive: None,
            dead_after: None,
            idle_timeout: None,
            handshake_timeout: None,
            close_timeout: Some(Duration::from_secs(30)),
            write_limit: 1 << 20,
            packet: Framing::Raw,
            packet_size: 1 << 20,
            exclusive: false,
            transport: false,
        };
        let token = self
            .engine
            .adopt(ours.into_raw_fd(), Arc::new(settings), None);
        self.connections.push(Connection {
            token: token.unwrap(),
            peer: Some(peer),
            accepted: 0,
            received: 0,
            sent: 0,
            taken: 0,
            corks: 0,
            ended: false,
            terminated: false,
            closed: false,
        });
    }

    fn act(&mut self, operation: u8, argument: u8) {
        let index = usize::from(operation >> 5) % self.connections.len();
        let connection = &mut self.connections[index];
        let (token, engine) = (connection.token, &mut self.engine);
        let size = SIZES[usize::from(argument % 8)];
        match operation & 31 {
            0..=3 => connection.write(engine, size),
            4..=6 => connection.write_all(engine, size),
            7 => {
                let data = pattern(connection.accepted, size);
                match engine.end(token, &data) {
                    Ok(()) => connection.accepted += size,
                    Err(_) => return,
                }
                connection.ended = true;
            }
            8 => {
                engine.shutdown(token);
                connection.ended = true;
            }
            9 => engine.stop_reading(token),
            10 => {
                engine.close_gracefully(token);
                connection.ended = true;
            }
            11 => {
                engine.terminate(token);
                connection.terminated = true;
                connection.ended = true;
            }
            12 => engine.set_paused(token, true),
            13 => engine.set_paused(token, false),
            14 => engine.set_held(token, true),
            15 => engine.set_held(token, false),
            16 => {
                engine.cork(token);
                connection.corks += 1;
            }
            17 if connection.corks > 0 => {
                engine.uncork(token);
                connection.corks -= 1;
            }
            18 => engine.flush(token),
            19 => {
                let millis = Duration::from_millis(u64::from(argument) << 20);
                engine.set_idle_timeout(token, (argument > 0).then_some(millis));
            }
            20 => {
                let _ = engine.buffered(token);
                engine.await_drain(token);
            }
            21..=23 => connection.peer_sends(size),
            24..=26 => {
                connection.peer_reads(size);
            }
            27 => connection.peer_finishes(),
            28 => connection.peer = None,
            _ => self.turn(),
        }
    }

    fn turn(&mut self) {
        let poller = Arc::clone(self.engine.poller());
        poller.wait(&mut self.events, Some(Duration::ZERO)).unwrap();
        self.engine.begin_turn();
        for index in 0..self.events.len() {
            let Some((Target::Member(token), ready)) = self.events.target(index) else {
                continue;
            };
            if let Event::Stream { readable: true, .. } = self.engine.on_ready(token, ready) {
                self.read(token);
            }
        }
        self.engine.end_turn();
        self.take_notices();
    }

    fn read(&mut self, token: Token) {
        loop {
            match self.engine.read(token, &mut self.buffer) {
                Read::Data { n, more } => {
                    let connection = connection(&mut self.connections, token);
                    assert!(!connection.closed, "data behind the end");
                    assert_eq!(self.buffer[..n], pattern(connection.taken, n));
                    connection.taken += n;
                    assert!(connection.taken <= connection.sent);
                    if !more {
                        return;
                    }
                }
                Read::End => return self.engine.end_handled(token),
                Read::Nothing => return,
                other => panic!("{other:?} of a connection without TLS"),
            }
        }
    }

    fn take_notices(&mut self) {
        // A notice may make work, but not without end.
        for _ in 0..1_000 {
            match self.engine.take_notice() {
                None => return,
                Some(Notice::Closed(token, _)) => {
                    let connection = connection(&mut self.connections, token);
                    assert!(!connection.closed, "closed twice");
                    connection.closed = true;
                }
                Some(Notice::Unread(token)) => self.read(token),
                Some(Notice::Idle(_)) => {}
                Some(other) => panic!("{other:?}"),
            }
        }
        panic!("notices without an end");
    }

    /// Everybody finishes: what was accepted arrives, and each connection ends.
    fn ends(&mut self) {
        for connection in &mut self.connections {
            let token = connection.token;
            self.engine.set_held(token, false);
            self.engine.set_paused(token, false);
            for _ in 0..connection.corks {
                self.engine.uncork(token);
            }
            self.engine.shutdown(token);
            connection.peer_finishes();
        }
        for _ in 0..10_000 {
            if self.connections.iter().all(|connection| connection.closed) {
                break;
            }
            self.turn();
            for connection in &mut self.connections {
                connection.peer_reads(BUFFER);
            }
        }
        let mut tokens = HashSet::new();
        for connection in &mut self.connections {
            assert!(connection.closed, "it does not end");
            assert!(tokens.insert(connection.token), "a token twice");
            while connection.peer_reads(BUFFER) {}
            if connection.peer.is_some() && !connection.terminated {
                assert_eq!(connection.received, connection.accepted, "bytes are lost");
            }
        }
    }
}

impl Connection {
    fn write(&mut self, engine: &mut Engine, size: usize) {
        match engine.write(self.token, &pattern(self.accepted, size)) {
            Written::Accepted(n) => {
                assert!(n <= size && !self.ended, "written behind the end");
                self.accepted += n;
            }
            Written::Closed => {}
            other @ Written::TooLong { .. } => panic!("{other:?}"),
        }
    }

    fn write_all(&mut self, engine: &mut Engine, size: usize) {
        if engine
            .write_all(self.token, &pattern(self.accepted, size))
            .is_ok()
        {
            assert!(!self.ended, "written behind the end");
            self.accepted += size;
        }
    }

    fn peer_sends(&mut self, size: usize) {
        if let Some(peer) = &mut self.peer
            && let Ok(n) = peer.write(&pattern(self.sent, size))
        {
            self.sent += n;
        }
    }

    /// Whether there was something.
    fn peer_reads(&mut self, most: usize) -> bool {
        let Some(peer) = &mut self.peer else {
            return false;
        };
        let mut buffer = vec![0; most.clamp(1, BUFFER)];
        match peer.read(&mut buffer) {
            Ok(n) => {
                assert_eq!(buffer[..n], pattern(self.received, n));
                self.received += n;
                assert!(self.received <= self.accepted, "bytes of nobody");
                n > 0
            }
            Err(error) => {
                let reset = error.kind() == ErrorKind::ConnectionReset;
                assert!(!reset || self.terminated, "unread input made a RST of it");
                false
            }
        }
    }

    fn peer_finishes(&mut self) {
        if let Some(peer) = &self.peer {
            // Fails where the connection is gone.
            let _ = peer.shutdown(Shutdown::Write);
        }
    }
}

fn connection(connections: &mut [Connection], token: Token) -> &mut Connection {
    let mut all = connections.iter_mut();
    all.find(|connection| connection.token == token)
        .expect("a token of nobody")
}

/// So many bytes from that place on.
fn pattern(start: usize, len: usize) -> Vec<u8> {
    let round: Vec<u8> = (0..251).collect();
    round.repeat(len / PATTERN + 2)[start % PATTERN..][..len].to_vec()
}
