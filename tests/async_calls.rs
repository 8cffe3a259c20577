//! Every call that blocks has a form that does not, for programs with an executor of their own: a life of an array in
//! these alone.

use paritas::error::{Kind, Result};
use paritas::types::BLOCK_U64;
use paritas::volume::{Array, CreateOptions, OpenOptions, Pace, Upkeep, Volume};
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// The simplest executor: the thread sleeps until it is woken.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

async fn expect(volume: &Volume, offset: u64, bytes: &[u8]) {
    let read = volume.read_async(offset, bytes.len()).await.expect("read");
    assert!(read == bytes, "at {offset}");
    // Whoever wants parts gets the same, also of blocks that are read in part.
    let len = bytes.len();
    for (from, to) in
        [(0, len), (512, len), (0, len - 512), (512, len - 512), (512, 1024), (0, 0), (512, 512)]
    {
        let parts = volume.read_parts_async(offset + from as u64, to - from).await.expect("read");
        assert!(parts.concat() == bytes[from..to], "{from} to {to} at {offset}");
    }
}

fn kind<T>(result: Result<T>) -> Option<Kind> {
    result.err().map(|error| error.kind())
}

#[test]
fn an_array_lives_by_calls_that_do_not_block() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let members: Vec<PathBuf> = ["m0", "m1", "m2"].map(path).into();
    let options = CreateOptions { size: Some(64 << 20), ..CreateOptions::default() };
    Array::create(&members, &options).expect("made").close().expect("closed");
    block_on(async {
        let options = OpenOptions { upkeep: Upkeep::OnDemand, ..OpenOptions::default() };
        let array = Array::open_async(folder.path(), &options).await.expect("opened");
        let volume = array.create_volume_async("mail", 1 << 20, None).await.expect("made");
        assert_eq!((volume.name(), volume.size_async().await.expect("there")), ("mail", 1 << 20));
        volume.write_async(0, vec![1; 8 << 12]).await.expect("written");
        volume.write_durable_async(2 << 12, vec![2; 1 << 12]).await.expect("durable");
        volume.trim_async(0, BLOCK_U64).await.expect("trimmed");
        volume.write_zeroes_async(3 << 12, BLOCK_U64).await.expect("trimmed");
        volume.resize_async(2 << 20).await.expect("resized");
        volume.flush_async().await.expect("durable");

        let first = array.member_async("m0").await.expect("a member");
        array.fail_member_async(first).await.expect("two of three stay");
        assert_eq!(kind(array.fail_member_async(first).await), Some(Kind::Refused));
        let new = array.replace_member_async(first, path("new"), false).await.expect("replaced");
        assert_eq!(array.member_async("new").await.expect("a member"), new);
        let rebuilt = array.rebuild_async(Pace::default()).await.expect("rebuilt");
        assert_eq!((rebuilt.missing, rebuilt.lost), (0, 0));
        let scrub = array.scrub_async().await.expect("scrubbed");
        assert_eq!((scrub.lost, scrub.reduced), (0, 0));
        assert!(array.clear_async().await.expect("nothing is wrong").is_empty());

        let gone = array.create_volume_async("gone", 1 << 20, None).await.expect("made");
        array.delete_volume_async("gone").await.expect("deleted");
        assert_eq!(kind(array.delete_volume_async("gone").await), Some(Kind::NotFound));
        assert_eq!(kind(gone.size_async().await), Some(Kind::NotFound));
        array.close_async().await.expect("closed");
        assert_eq!(kind(array.close_async().await), Some(Kind::Closed));
        assert_eq!(kind(volume.flush_async().await), Some(Kind::Closed));
    });
    block_on(async {
        let array = Array::open_async(folder.path(), &OpenOptions::default()).await.expect("opened");
        let volume = array.volume_async("mail").await.expect("there");
        assert_eq!(volume.size_async().await.expect("there"), 2 << 20);
        for (block, byte) in (0..8).zip([0, 1, 2, 0, 1, 1, 1, 1]) {
            expect(&volume, block << 12, &[byte; 1 << 12]).await;
        }
        assert_eq!(array.volumes_async().await.expect("listed").len(), 1);
        assert!(array.status_async().await.expect("how it is").damage.is_empty());
    });
    let nothing = tempfile::tempdir().expect("a folder");
    let opened = block_on(Array::open_async(nothing.path(), &OpenOptions::default()));
    assert_eq!(kind(opened), Some(Kind::NotFound));
}
