//! A database on a volume: redb keeps its file there. An example of how to put whatever wants a file of its own onto
//! an array, and the proof that what it committed outlasts crashes and lost members.

use paritas::types::BLOCK_U64;
use paritas::volume::{Array, CreateOptions, Cursor, OpenOptions, Volume};
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use std::fmt::{self, Debug};
use std::fs;
use std::io::{Error, Read, Result, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// The bytes of redb's file, on a volume. Volumes have one block at least, and files may be empty: so the first block
/// says how long the file is, and the file begins behind it.
#[derive(Clone)]
struct Storage(Volume);

impl Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Storage").field(&self.0.name()).finish()
    }
}

impl Storage {
    /// Cursors cost nothing: every call has its own, so that calls run beside each other.
    fn at(&self, place: u64) -> Cursor {
        let mut cursor = Cursor::new(self.0.clone());
        cursor.set_position(place);
        cursor
    }
}

impl StorageBackend for Storage {
    fn len(&self) -> Result<u64> {
        let mut len = [0; 8];
        self.at(0).read_exact(&mut len)?;
        Ok(u64::from_le_bytes(len))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.at(BLOCK_U64 + offset).read_exact(out)
    }

    /// redb asks for whole pages of 4096 bytes, and volumes have whole blocks of as many; what a volume loses and
    /// gets again is zeros.
    fn set_len(&self, len: u64) -> Result<()> {
        self.0.resize(BLOCK_U64 + len)?;
        self.at(0).write_all(&len.to_le_bytes())
    }

    fn sync_data(&self) -> Result<()> {
        Ok(self.0.flush()?)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.at(BLOCK_U64 + offset).write_all(data)
    }
}

/// A storage that is gone from one moment to the next, as in a power cut: redb cannot even close its file.
#[derive(Clone, Debug)]
struct Plug(Arc<Mutex<Option<Storage>>>);

impl Plug {
    fn new(storage: Storage) -> Plug {
        Plug(Arc::new(Mutex::new(Some(storage))))
    }

    fn pull(&self) {
        *self.0.lock().expect("no panic") = None;
    }

    fn storage(&self) -> Result<Storage> {
        self.0.lock().expect("no panic").clone().ok_or_else(|| Error::other("there is no power"))
    }
}

impl StorageBackend for Plug {
    fn len(&self) -> Result<u64> {
        self.storage()?.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.storage()?.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.storage()?.set_len(len)
    }

    fn sync_data(&self) -> Result<()> {
        self.storage()?.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.storage()?.write(offset, data)
    }
}

const STARS: TableDefinition<'_, u64, &str> = TableDefinition::new("stars");

fn storage(array: &Array) -> Storage {
    Storage(array.volume("database").expect("there"))
}

fn open(storage: impl StorageBackend) -> Database {
    Database::builder().create_with_backend(storage).expect("a database")
}

/// Commits the numbers of a range, each with its name.
fn commit(database: &Database, numbers: std::ops::Range<u64>) {
    let transaction = database.begin_write().expect("begun");
    {
        let mut stars = transaction.open_table(STARS).expect("a table");
        for number in numbers {
            stars.insert(number, format!("star {number}").as_str()).expect("inserted");
        }
    }
    transaction.commit().expect("durable");
}

/// Demands that exactly so many are there, each with its name.
fn expect(database: &Database, count: u64) {
    let transaction = database.begin_read().expect("begun");
    let stars = transaction.open_table(STARS).expect("a table");
    let found: Vec<(u64, String)> = stars
        .iter()
        .expect("listed")
        .map(|star| star.map(|(number, name)| (number.value(), name.value().to_owned())).expect("read"))
        .collect();
    let expected: Vec<(u64, String)> = (0..count).map(|number| (number, format!("star {number}"))).collect();
    assert!(found == expected, "{} of {count} are there", found.len());
}

#[test]
fn what_a_database_committed_outlasts_crashes_and_lost_members() {
    let folder = tempfile::tempdir().expect("a folder");
    let members: Vec<PathBuf> = (0..5).map(|i| folder.path().join(format!("disk{i}"))).collect();
    let options = CreateOptions { size: Some(64 << 20), ..CreateOptions::default() };
    let array = Array::create(&members, &options).expect("3+2: any two may be lost");
    array.create_volume("database", BLOCK_U64, None).expect("created");
    let plug = Plug::new(storage(&array));
    let database = open(plug.clone());
    commit(&database, 0..1000);
    let unfinished = database.begin_write().expect("begun");
    unfinished.open_table(STARS).expect("a table").insert(4711, "never committed").expect("inserted");
    // Neither the database nor the array is closed.
    plug.pull();
    drop((unfinished, database, array));

    fs::remove_file(&members[1]).expect("lost");
    let array = Array::open(folder.path(), &OpenOptions::default()).expect("opened");
    let database = open(storage(&array));
    expect(&database, 1000);
    commit(&database, 1000..2000);
    drop(database);
    array.close().expect("closed");

    fs::remove_file(&members[4]).expect("lost");
    let array = Array::open(folder.path(), &OpenOptions::default()).expect("opened");
    expect(&open(storage(&array)), 2000);
    array.close().expect("closed");
}
