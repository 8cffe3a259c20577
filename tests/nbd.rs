//! Volumes over a socket: every command in every mode, several connections, and clients that are slow, greedy, hostile,
//! or suddenly gone.

mod nbd_client;

use nbd_client::*;
use paritas::frontend::nbd::server::{Address, Limits, Options, Server, Stopper};
use paritas::volume::{Array, CreateOptions, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// An array that is served from a thread of this process.
struct Served {
    folder: tempfile::TempDir,
    array: Array,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
    complaints: Arc<Mutex<Vec<String>>>,
}

impl Served {
    fn new(options: Options) -> Served {
        let folder = tempfile::tempdir().expect("a folder");
        let members: Vec<PathBuf> = (0..3).map(|i| folder.path().join(format!("array/m{i}"))).collect();
        std::fs::create_dir(folder.path().join("array")).expect("a folder");
        let create = CreateOptions { size: Some(128 << 20), ..CreateOptions::default() };
        let array = Array::create(&members, &create).expect("made");
        array.create_volume("v", 64 * MIB, None).expect("created");
        array.create_volume("w", 1 << 40, None).expect("created");
        Served::start(folder, array, options)
    }

    fn start(folder: tempfile::TempDir, array: Array, options: Options) -> Served {
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let told = complaints.clone();
        let address = Address::Unix(folder.path().join("socket"));
        let complain = move |text: &str| told.lock().expect("no panic").push(text.to_owned());
        let server = Server::bind(&array, &[address], false, options, complain).expect("bound");
        let stopper = server.stopper();
        let thread = Some(std::thread::spawn(move || server.run().expect("served")));
        Served { folder, array, stopper, thread, complaints }
    }

    fn limited(limits: Limits) -> Served {
        Served::new(Options { limits, ..Options::default() })
    }

    fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(self.folder.path().join("socket")).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        stream
    }

    fn client(&self, name: &str, mode: Mode) -> Client<UnixStream> {
        Client::connect(self.raw(), name, mode).expect("negotiated")
    }

    /// Somebody else is served as if nothing was the matter.
    fn is_well(&self) {
        let mut client = self.client("v", Mode::Structured);
        client.write(FUA, 63 * MIB, &[9; 4096]);
        assert_eq!(client.read(63 * MIB, 4096), [9; 4096]);
    }

    fn complaints(&self) -> Vec<String> {
        self.complaints.lock().expect("no panic").clone()
    }

    fn stop(mut self) -> (tempfile::TempDir, Array) {
        self.stopper.stop();
        self.thread.take().expect("runs").join().expect("no panic");
        (self.folder, self.array)
    }
}

/// Reads until the server ends the connection.
fn until_end(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => bytes,
        Err(error) => panic!("it was not ended: {error}"),
    }
}

#[test]
fn every_command_does_what_it_says_in_every_mode() {
    let served = Served::new(Options::default());
    for (at, mode) in (0..).map(|i| i * 16 * MIB).zip(MODES) {
        let mut client = served.client("v", mode);
        assert_eq!(client.size, 64 * MIB);
        client.write(0, at, &[1; 64 << 10]);
        client.write(FUA, at + 4096, &[2; 512]);
        client.write(0, at + 8192 - 512, &[3; 1024]);
        let mut expected = vec![1; 64 << 10];
        expected[4096..4096 + 512].fill(2);
        expected[8192 - 512..8192 + 512].fill(3);
        assert!(client.read(at, 64 * KIB) == expected, "{mode:?}");
        assert!(client.read(at + 512, 5 * 512) == expected[512..6 * 512], "{mode:?}");
        client.done(TRIM, 0, at + 16 * KIB, 4096);
        client.done(WRITE_ZEROES, FAST_ZERO, at + 24 * KIB, 4096);
        client.done(WRITE_ZEROES, NO_HOLE | FUA, at + 32 * KIB + 512, 4096);
        expected[16 << 10..20 << 10].fill(0);
        expected[24 << 10..28 << 10].fill(0);
        expected[(32 << 10) + 512..(36 << 10) + 512].fill(0);
        assert!(client.read(at, 64 * KIB) == expected, "{mode:?}");
        client.done(FLUSH, 0, 0, 0);
        client.done(CACHE, 0, at, 64 * KIB);
        for kind in [READ, WRITE, TRIM, CACHE, WRITE_ZEROES] {
            client.done(kind, 0, at, 0);
        }
        // A large write comes in pieces, a large read goes in pieces.
        let large: Vec<u8> = (0..5 << 20).map(|i: u32| (i / 512).to_le_bytes()[0]).collect();
        client.write(0, at + MIB + 512, &large);
        assert!(client.read(at + MIB + 512, 5 * MIB) == large, "{mode:?}");
        if mode > Mode::Simple {
            let runs = client.call(BLOCK_STATUS, 0, at, 64 * KIB, &[]).runs;
            let kib = |kib: u64, flags| (kib * KIB, flags);
            assert_eq!(runs, [kib(16, 0), kib(4, 3), kib(4, 0), kib(4, 3), kib(36, 0)], "{mode:?}");
            let one = client.call(BLOCK_STATUS, REQ_ONE, at + 15 * KIB, 64 * KIB, &[]).runs;
            assert_eq!(one, [kib(1, 0)]);
            assert_eq!(client.call(READ, DF, at, 512, &[]).data, expected[..512]);
        }
        client.send(DISC, 0, 0, 0, &[]).expect("sent");
        assert!(until_end(&mut client.stream).is_empty());
    }
    assert_eq!(served.complaints(), [""; 0]);
    let (_folder, array) = served.stop();
    array.close().expect("closed");
}

#[test]
fn extended_headers_carry_lengths_that_no_other_can() {
    let served = Served::new(Options::default());
    let mut client = served.client("w", Mode::Extended);
    let tib = 1 << 40;
    assert_eq!(client.size, tib);
    assert_eq!(client.call(BLOCK_STATUS, 0, 0, tib, &[]).runs, [(tib, 3)]);
    client.write(0, tib / 2, &[7; 8192]);
    let runs = [(tib / 2, 3), (8192, 0), (tib / 2 - 8192, 3)];
    assert_eq!(client.call(BLOCK_STATUS, 0, 0, tib, &[]).runs, runs);
    let payload = [tib.to_be_bytes().to_vec(), 1u32.to_be_bytes().to_vec()].concat();
    assert_eq!(client.call(BLOCK_STATUS, PAYLOAD_LEN, 0, 12, &payload).runs, runs);
    let other = [tib.to_be_bytes().to_vec(), 2u32.to_be_bytes().to_vec()].concat();
    assert_eq!(client.call(BLOCK_STATUS, PAYLOAD_LEN, 0, 12, &other).error, EINVAL);
    client.done(TRIM, 0, 0, tib);
    assert_eq!(client.call(BLOCK_STATUS, 0, 0, tib, &[]).runs, [(tib, 3)]);
    client.done(WRITE_ZEROES, FAST_ZERO, 0, tib);
    client.done(CACHE, 0, 0, tib);
    assert_eq!(client.error(READ, 0, 0, tib), EINVAL);
    // A payload that the command does not have is taken and refused.
    assert_eq!(client.call(TRIM, PAYLOAD_LEN, 0, 4096, &[1; 4096]).error, EINVAL);
    assert_eq!(client.read(tib / 2, 512), [0; 512]);
}

#[test]
fn wrong_requests_are_refused_with_the_numbers_of_the_document_and_the_next_one_is_served() {
    let served = Served::new(Options::default());
    for mode in MODES {
        let mut client = served.client("v", mode);
        let size = client.size;
        assert_eq!(client.error(READ, 0, size, 512), EINVAL);
        assert_eq!(client.error(READ, 0, 100, 512), EINVAL);
        assert_eq!(client.error(READ, 0, 0, 100), EINVAL);
        assert_eq!(client.error(READ, 0, 0, 33 * MIB), EINVAL);
        assert_eq!(client.error(READ, FUA | NO_HOLE, 0, 512), EINVAL);
        assert_eq!(client.error(99, 0, 0, 512), EINVAL);
        assert_eq!(client.error(TRIM, 0, size - 512, 1024), EINVAL);
        assert_eq!(client.error(WRITE_ZEROES, 0, size - 512, 1024), ENOSPC);
        assert_eq!(client.error(WRITE_ZEROES, FAST_ZERO | NO_HOLE, 0, 512), ENOTSUP);
        assert_eq!(client.error(BLOCK_STATUS, 0, 0, 0), EINVAL);
        assert_eq!(client.call(WRITE, 0, size, 512, &[1; 512]).error, ENOSPC);
        assert_eq!(client.call(WRITE, 0, 1, 3, &[1; 3]).error, EINVAL);
        assert_eq!(client.read(0, 512), [0; 512]);
    }
    let mut simple = served.client("v", Mode::Simple);
    assert_eq!(simple.error(BLOCK_STATUS, 0, 0, 4096), EINVAL, "no context was selected");
    assert!(Client::connect(served.raw(), "none", Mode::Simple).is_err());
    assert!(Client::connect(served.raw(), "", Mode::Simple).is_err(), "there are two volumes");
}

#[test]
fn a_read_only_server_refuses_what_writes() {
    let served = Served::new(Options { read_only: true, ..Options::default() });
    for mode in MODES {
        let mut client = served.client("v", mode);
        assert_eq!(client.flags & 2, 2);
        assert_eq!(client.call(WRITE, 0, 0, 512, &[1; 512]).error, EPERM);
        assert_eq!(client.error(TRIM, 0, 0, 512), EPERM);
        assert_eq!(client.error(WRITE_ZEROES, 0, 0, 512), EPERM);
        client.done(FLUSH, 0, 0, 0);
        assert_eq!(client.read(0, 512), [0; 512]);
    }
}

#[test]
fn many_requests_are_in_flight_and_each_reply_is_for_its_own() {
    let served = Served::new(Options::default());
    let mut client = served.client("v", Mode::Structured);
    let block = |i: u64| [u8::try_from(i % 251).expect("small"); 4096];
    let writes: Vec<u64> =
        (0..200).map(|i| client.send(WRITE, 0, i * 4096, 4096, &block(i)).expect("sent")).collect();
    let mut answered: Vec<u64> = (0..200).map(|_| client.receive().expect("answered").cookie).collect();
    answered.sort_unstable();
    assert_eq!(answered, writes);
    let reads: Vec<u64> =
        (0..200).map(|i| client.send(READ, 0, i * 4096, 4096, &[]).expect("sent")).collect();
    for _ in 0..200 {
        let reply = client.receive().expect("answered");
        assert!(reply.data == block(reply.cookie - reads[0]));
    }
}

#[test]
fn a_flush_answers_for_what_other_connections_wrote() {
    let served = Served::new(Options::default());
    let mut clients: Vec<_> = (0..4).map(|_| served.client("v", Mode::Structured)).collect();
    assert_eq!(clients[0].flags & 0x100, 0x100, "several connections are offered");
    for (i, client) in (0..).zip(&mut clients) {
        client.write(0, i * MIB, &[u8::try_from(i).expect("small") + 1; 4096]);
    }
    clients[3].done(FLUSH, 0, 0, 0);
    for i in 0..4 {
        assert_eq!(clients[0].read(i * MIB, 1 << 12), [u8::try_from(i).expect("small") + 1; 4096]);
    }
    // The process dies here: nothing but what was flushed counts.
    let (folder, array) = served.stop();
    drop((clients, array));
    let array = Array::open(folder.path().join("array"), &OpenOptions::default()).expect("opened");
    let volume = array.volume("v").expect("found");
    for i in 0..4 {
        assert!(volume.read(i * MIB, 4096).expect("read").iter().all(|byte| u64::from(*byte) == i + 1));
    }
}

#[test]
fn clients_that_vanish_are_no_event() {
    let served = Served::new(Options::default());
    served.client("v", Mode::Simple).write(0, 0, &[5; 8 << 20]);
    for round in 0..20 {
        let mut client = served.client("v", MODES[round % 3]);
        for i in 0..64 {
            client.send(READ, 0, i * 64 * KIB, 64 * KIB, &[]).expect("sent");
        }
        if round % 2 == 0 {
            client.receive().expect("answered");
        }
    }
    // In the middle of a payload.
    let mut client = served.client("v", Mode::Simple);
    client.send(WRITE, 0, 0, MIB, &[1; 1000]).expect("sent");
    drop(client);
    for mode in MODES {
        let whole = handshake("v", mode).concat();
        for length in 0..=whole.len() {
            served.raw().write_all(&whole[..length]).expect("sent");
        }
    }
    served.is_well();
    assert_eq!(served.complaints(), [""; 0]);
    let (_folder, array) = served.stop();
    array.close().expect("closed");
}

#[test]
fn hostile_bytes_end_their_connection_and_no_other() {
    let served = Served::new(Options::default());
    let mut bystander = served.client("v", Mode::Simple);
    let mut http = served.raw();
    http.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    assert_eq!(until_end(&mut http).len(), 18, "nothing but the greeting");
    for mode in MODES {
        let mut client = served.client("v", mode);
        client.stream.write_all(b"this is no request at all, whatever").expect("sent");
        assert!(until_end(&mut client.stream).is_empty());
        let mut client = served.client("v", mode);
        client.send(WRITE, 0, 0, 33 * MIB, &[]).expect("sent");
        assert!(until_end(&mut client.stream).is_empty(), "a payload that is too long");
    }
    bystander.write(0, 0, &[1; 512]);
    assert!(!served.complaints().is_empty());
}

#[test]
fn slow_clients_are_cut_off_and_idle_ones_are_not() {
    let short = Duration::from_millis(300);
    let limits =
        Limits { handshake: short, stall: short, request: 3 * short, connections: 8, ..Limits::default() };
    let served = Served::limited(limits);
    let mut idle = served.client("v", Mode::Simple);
    let since = Instant::now();
    let mut silent = served.raw();
    assert_eq!(until_end(&mut silent).len(), 18);
    for bytes in [&handshake("v", Mode::Simple)[0][..2], &handshake("v", Mode::Simple).concat()[..20]] {
        let mut half = served.raw();
        half.write_all(bytes).expect("sent");
        until_end(&mut half);
    }
    let mut half = served.client("v", Mode::Simple);
    half.stream.write_all(&0x2560_9513u32.to_be_bytes()).expect("sent");
    until_end(&mut half.stream);
    let mut half = served.client("v", Mode::Simple);
    half.send(WRITE, 0, 0, MIB, &[1; 4096]).expect("sent");
    until_end(&mut half.stream);
    assert!(since.elapsed() >= 5 * short && since.elapsed() < Duration::from_secs(15));
    // A byte at a time is no way out.
    let mut drip = served.client("v", Mode::Simple);
    drip.send(WRITE, 0, 0, MIB, &[]).expect("sent");
    let since = Instant::now();
    while drip.stream.write_all(&[1]).is_ok() {
        assert!(since.elapsed() < Duration::from_secs(15), "it was never cut off");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(since.elapsed() >= 2 * short);
    assert!(idle.read(0, 512) == [0; 512], "whoever is idle between requests stays");
    let told = served.complaints().join("\n");
    for part in ["handshake takes too long", "middle of a request", "takes too long to come"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn who_does_not_take_its_replies_is_cut_off_and_blocks_nobody() {
    let stall = Duration::from_millis(500);
    let limits = Limits { stall, connection_bytes: 4 * MIB, bytes: 40 * MIB, ..Limits::default() };
    let served = Served::limited(limits);
    served.client("v", Mode::Simple).write(0, 0, &[5; 8 << 20]);
    let mut greedy: Vec<_> = (0..4).map(|_| served.client("v", Mode::Structured)).collect();
    for client in &mut greedy {
        for _ in 0..100 {
            client.send(READ, 0, 0, MIB, &[]).expect("sent");
        }
    }
    let since = Instant::now();
    served.is_well();
    assert!(since.elapsed() < stall, "others are served meanwhile");
    // Refusals take memory, too.
    let mut wrong = served.client("v", Mode::Structured);
    wrong.stream.set_nonblocking(true).expect("set");
    let mut sent = 0;
    while wrong.send(99, 0, 0, 0, &[]).is_ok() {
        sent += 1;
        assert!(sent < 100_000, "nobody says stop");
    }
    std::thread::sleep(3 * stall);
    for client in &mut greedy {
        until_end(&mut client.stream);
    }
    served.is_well();
    assert!(served.complaints().join("\n").contains("does not take its replies"));
}

#[test]
fn more_connections_than_there_may_be_are_turned_away() {
    let served = Served::limited(Limits { connections: 3, ..Limits::default() });
    let clients: Vec<_> = (0..3).map(|_| served.client("v", Mode::Simple)).collect();
    assert!(until_end(&mut served.raw()).is_empty());
    drop(clients);
    let since = Instant::now();
    while Client::connect(served.raw(), "v", Mode::Simple).is_err() {
        assert!(since.elapsed() < Duration::from_secs(10), "places are not given back");
    }
}

#[test]
fn what_is_in_flight_when_it_stops_is_answered() {
    let served = Served::new(Options::default());
    let mut client = served.client("v", Mode::Simple);
    let mut idle = served.client("v", Mode::Simple);
    let mut negotiating = served.raw();
    let data = vec![3; 4 << 20];
    client.write(0, 0, &data);
    // As many bytes as a socket holds.
    for i in 0..8 {
        client.send(READ, 0, i * 64 * KIB, 4 * KIB, &[]).expect("sent");
    }
    client.receive().expect("answered");
    let since = Instant::now();
    let (folder, array) = served.stop();
    assert!(since.elapsed() < Duration::from_secs(5));
    assert!(!folder.path().join("socket").exists());
    while let Ok(reply) = client.receive() {
        assert_eq!(reply.error, 0);
    }
    assert!(until_end(&mut idle.stream).is_empty());
    assert_eq!(until_end(&mut negotiating).len(), 18);
    array.close().expect("closed");
    let array = Array::open(folder.path().join("array"), &OpenOptions::default()).expect("opened");
    assert!(array.volume("v").expect("found").read(0, data.len()).expect("read") == data);
}

#[test]
fn a_lost_block_is_named_and_all_others_are_read() {
    let served = Served::new(Options::default());
    let block = |i: u8| [i + 1; 4096];
    let data: Vec<u8> = (0..200).flat_map(block).collect();
    served.client("v", Mode::Simple).write(FUA, 0, &data);
    let (folder, array) = served.stop();
    array.close().expect("closed");
    // All copies of one block rot.
    for member in 0..3 {
        let path = folder.path().join(format!("array/m{member}"));
        let mut bytes = std::fs::read(&path).expect("read");
        for found in bytes.chunks_mut(4096).filter(|found| **found == block(77)) {
            found[100] ^= 1;
        }
        std::fs::write(&path, bytes).expect("written");
    }
    let array = Array::open(folder.path().join("array"), &OpenOptions::default()).expect("opened");
    let served = Served::start(folder, array, Options::default());
    for mode in MODES {
        let mut client = served.client("v", mode);
        for i in 0..200 {
            let reply = client.call(READ, 0, u64::from(i) * 4096, 4096, &[]);
            assert_eq!(reply.error, if i == 77 { EIO } else { 0 }, "block {i}");
            assert!(i == 77 || reply.data == block(i), "block {i}");
        }
        let all = client.call(READ, 0, 0, 200 * 4096, &[]);
        let place = (mode > Mode::Simple).then_some(77 * 4096);
        assert_eq!((all.error, all.at), (EIO, place));
    }
    assert_eq!(served.complaints().len(), 3, "one line for each connection");
}
