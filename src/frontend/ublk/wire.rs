//! The numbers and structures of the kernel's interface (linux/ublk_cmd.h), in the byte order of the machine.

use rustix::ioctl::{Opcode, opcode};

/// Bytes of a command in an entry of the ring.
pub const COMMAND_BYTES: usize = 80;
/// Bytes of the structure that says how a device is.
pub const INFO_BYTES: usize = 64;
/// Bytes of the structure that says what may be asked of a device, as far as it is used here.
pub const PARAMETER_BYTES: usize = 60;
/// Bytes of the kernel's features.
pub const FEATURE_BYTES: usize = 8;
/// Bytes of a descriptor of a request.
pub const DESCRIPTOR_BYTES: usize = 24;
/// For the device's number, where the kernel is to choose one.
pub const ANY_DEVICE: u32 = u32::MAX;
/// What a command of a request ends with when the device goes, instead of with another request.
pub const GONE: i32 = -rustix::io::Errno::NODEV.raw_os_error();

/// Features of the kernel's driver, and of a device.
pub mod feature {
    /// Commands are encoded as those of `ioctl`. Since Linux 6.4.
    pub const ENCODED: u64 = 1 << 6;
    /// The server moves bytes by reading and writing. Since Linux 6.5.
    pub const COPY: u64 = 1 << 7;
    /// A device may get another size. Since Linux 6.16.
    pub const RESIZE: u64 = 1 << 10;
}

/// What a device is like.
pub mod attribute {
    /// Nobody may write.
    pub const READ_ONLY: u32 = 1;
    /// What was written is durable after a flush.
    pub const CACHE: u32 = 1 << 2;
    /// A write may be durable at once.
    pub const DURABLE: u32 = 1 << 3;
}

/// What is asked for.
pub mod operation {
    /// Bytes of the device.
    pub const READ: u32 = 0;
    /// These bytes go there.
    pub const WRITE: u32 = 1;
    /// What was written becomes durable.
    pub const FLUSH: u32 = 2;
    /// Nobody needs the range any more.
    pub const DISCARD: u32 = 3;
    /// The range is zeros.
    pub const WRITE_ZEROES: u32 = 5;
    /// The bits of a descriptor's first word that are the operation.
    pub const MASK: u32 = 0xff;
    /// And one that says that the write is to be durable.
    pub const DURABLE: u32 = 1 << 13;
    /// Zeros are to take space.
    pub const STORED: u32 = 1 << 15;
}

/// The state of a device that is served.
const LIVE: u16 = 1;
/// Kinds of parameters: those that each device has, and those of discards.
const KINDS: u32 = 1 | 2;
/// For commands that are for no queue.
const NO_QUEUE: u16 = u16::MAX;
/// Where the bytes of requests begin, and the bits of a place that tell their number and their queue.
const BYTES_AT: u64 = 0x8000_0000;
const TAG_BIT: u32 = 25;
const QUEUE_BIT: u32 = TAG_BIT + 16;

/// What the control device is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control {
    /// How a device is.
    Info,
    /// A device, which nobody sees before it is started.
    Add,
    /// That a device goes when it is stopped and nobody has it open; the command waits for that.
    Delete,
    /// That what was added is there for everybody.
    Start,
    /// That a device is there for nobody any more.
    Stop,
    /// What may be asked of a device.
    SetParameters,
    /// What the driver can do.
    Features,
    /// As [`Control::Delete`], without waiting.
    DeleteLater,
    /// Another size.
    Resize,
}

impl Control {
    /// The command's number.
    pub fn opcode(self) -> Opcode {
        type Argument = [u8; 32];
        const GROUP: u8 = b'u';
        match self {
            Control::Info => opcode::read::<Argument>(GROUP, 0x02),
            Control::Add => opcode::read_write::<Argument>(GROUP, 0x04),
            Control::Delete => opcode::read_write::<Argument>(GROUP, 0x05),
            Control::Start => opcode::read_write::<Argument>(GROUP, 0x06),
            Control::Stop => opcode::read_write::<Argument>(GROUP, 0x07),
            Control::SetParameters => opcode::read_write::<Argument>(GROUP, 0x08),
            Control::Features => opcode::read::<Argument>(GROUP, 0x13),
            Control::DeleteLater => opcode::read::<Argument>(GROUP, 0x14),
            Control::Resize => opcode::read_write::<Argument>(GROUP, 0x15),
        }
    }

    /// The command for a device: with a buffer, which lies at an address, and with a number.
    pub fn command(device: u32, buffer: (u64, u16), number: u64) -> [u8; COMMAND_BYTES] {
        let (address, length) = buffer;
        let mut writer = Writer::default();
        writer.put(&device.to_ne_bytes());
        writer.put(&NO_QUEUE.to_ne_bytes());
        writer.put(&length.to_ne_bytes());
        writer.put(&address.to_ne_bytes());
        writer.put(&number.to_ne_bytes());
        writer.padded()
    }
}

/// What the device of requests is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transfer {
    /// A request.
    Fetch,
    /// The next request, when the one before is answered with this: bytes, or the negative number of an error.
    Commit(i32),
}

impl Transfer {
    /// The command's number.
    pub fn opcode(self) -> Opcode {
        type Argument = [u8; 16];
        match self {
            Transfer::Fetch => opcode::read_write::<Argument>(b'u', 0x20),
            Transfer::Commit(_) => opcode::read_write::<Argument>(b'u', 0x21),
        }
    }

    /// The command for a request of a queue.
    pub fn command(self, queue: u16, tag: u16) -> [u8; COMMAND_BYTES] {
        let result = match self {
            Transfer::Fetch => 0,
            Transfer::Commit(result) => result,
        };
        let mut writer = Writer::default();
        writer.put(&queue.to_ne_bytes());
        writer.put(&tag.to_ne_bytes());
        writer.put(&result.to_ne_bytes());
        writer.padded()
    }
}

/// Where the bytes of a request are read and written.
pub fn bytes_at(queue: u16, tag: u16) -> u64 {
    BYTES_AT + (u64::from(queue) << QUEUE_BIT) + (u64::from(tag) << TAG_BIT)
}

/// How a device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Info {
    /// Queues of requests.
    pub queues: u16,
    /// Requests of a queue at a time.
    pub depth: u16,
    /// Whether it is there for everybody, and served.
    pub is_live: bool,
    /// Bytes of a request at most.
    pub request_bytes: u32,
    /// Its number.
    pub device: u32,
    /// The process that serves it.
    pub process: i32,
    /// Its features.
    pub features: u64,
    /// Whatever its server has given it, by which it is known again. The kernel keeps it and makes nothing of it.
    pub mark: u64,
}

impl Info {
    /// As the kernel has it.
    pub fn encode(&self) -> [u8; INFO_BYTES] {
        let mut writer = Writer::default();
        writer.put(&self.queues.to_ne_bytes());
        writer.put(&self.depth.to_ne_bytes());
        writer.put(&u16::from(self.is_live).to_ne_bytes());
        writer.put(&[0; 2]);
        writer.put(&self.request_bytes.to_ne_bytes());
        writer.put(&self.device.to_ne_bytes());
        writer.put(&self.process.to_ne_bytes());
        writer.put(&[0; 4]);
        writer.put(&self.features.to_ne_bytes());
        writer.put(&self.mark.to_ne_bytes());
        writer.padded()
    }

    /// As the kernel said it.
    pub fn decode(bytes: &[u8; INFO_BYTES]) -> Info {
        Info {
            queues: u16::from_ne_bytes(field(bytes, 0)),
            depth: u16::from_ne_bytes(field(bytes, 2)),
            is_live: u16::from_ne_bytes(field(bytes, 4)) == LIVE,
            request_bytes: u32::from_ne_bytes(field(bytes, 8)),
            device: u32::from_ne_bytes(field(bytes, 12)),
            process: i32::from_ne_bytes(field(bytes, 16)),
            features: u64::from_ne_bytes(field(bytes, 24)),
            mark: u64::from_ne_bytes(field(bytes, 32)),
        }
    }
}

/// What may be asked of a device. Sizes are powers of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parameters {
    /// See [`attribute`].
    pub attributes: u32,
    /// Bytes of a sector.
    pub sector: u32,
    /// Bytes of what is written as a whole.
    pub block: u32,
    /// Bytes of a request that is as good as a larger one.
    pub best: u32,
    /// Bytes of a request that moves bytes at most.
    pub request_bytes: u32,
    /// Bytes of the device.
    pub size: u64,
    /// Bytes of a range that is discarded, or zeros, at most.
    pub range_bytes: u32,
}

impl Parameters {
    /// As the kernel has them.
    pub fn encode(&self) -> [u8; PARAMETER_BYTES] {
        let shift = |bytes: u32| u8::try_from(bytes.trailing_zeros()).expect("at most 32");
        let sectors = |bytes: u32| (bytes >> SECTOR_BITS).to_ne_bytes();
        let mut writer = Writer::default();
        writer.put(&u32::try_from(PARAMETER_BYTES).expect("small").to_ne_bytes());
        writer.put(&KINDS.to_ne_bytes());
        writer.put(&self.attributes.to_ne_bytes());
        writer.put(&[shift(self.sector), shift(self.block), shift(self.best), shift(self.block)]);
        writer.put(&sectors(self.request_bytes));
        writer.put(&[0; 4]);
        writer.put(&(self.size >> SECTOR_BITS).to_ne_bytes());
        writer.put(&[0; 8]);
        // Discards: from the first byte on, what they give back as a whole, and how much at most, in one piece.
        writer.put(&[0; 4]);
        writer.put(&self.block.to_ne_bytes());
        writer.put(&sectors(self.range_bytes));
        writer.put(&sectors(self.range_bytes));
        writer.put(&1u16.to_ne_bytes());
        writer.padded()
    }
}

/// The kernel counts in sectors of 512 bytes, whatever those of a device are.
pub const SECTOR_BITS: u32 = 9;

/// Fields, one behind the other.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    /// All of them, and zeros.
    fn padded<const BYTES: usize>(mut self) -> [u8; BYTES] {
        assert!(self.0.len() <= BYTES, "no more fields than the structure has");
        self.0.resize(BYTES, 0);
        self.0.try_into().expect("as many as that")
    }
}

/// The bytes at a place.
pub(super) fn field<const BYTES: usize>(bytes: &[u8], at: usize) -> [u8; BYTES] {
    bytes[at..at + BYTES].try_into().expect("as many as that")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_the_numbers_of_the_kernels_header() {
        let numbers = [
            (Control::Info, 0x8020_7502),
            (Control::Add, 0xc020_7504),
            (Control::Delete, 0xc020_7505),
            (Control::Start, 0xc020_7506),
            (Control::Stop, 0xc020_7507),
            (Control::SetParameters, 0xc020_7508),
            (Control::Features, 0x8020_7513),
            (Control::DeleteLater, 0x8020_7514),
            (Control::Resize, 0xc020_7515),
        ];
        for (control, number) in numbers {
            assert_eq!(control.opcode(), number, "{control:?}");
        }
        let numbers = [(Transfer::Fetch, 0xc010_7520), (Transfer::Commit(5), 0xc010_7521)];
        for (transfer, number) in numbers {
            assert_eq!(transfer.opcode(), number, "{transfer:?}");
        }
    }

    #[test]
    fn commands_lie_in_an_entry_as_the_kernel_reads_them() {
        let command = Control::command(0x0403_0201, (0x1122_3344_5566_7788, 0x0605), 0x0807_0605_0403_0201);
        let expected = [
            [1, 2, 3, 4, 0xff, 0xff, 5, 6],
            [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11],
            [1, 2, 3, 4, 5, 6, 7, 8],
        ];
        assert_eq!(command[..24], expected.concat());
        assert_eq!(command[24..], [0; 56]);
        let command = Transfer::Commit(-5).command(0x0201, 0x0403);
        assert_eq!(command[..8], [1, 2, 3, 4, 0xfb, 0xff, 0xff, 0xff]);
        assert_eq!(command[8..], [0; 72], "no address: bytes are copied");
        assert_eq!(Transfer::Fetch.command(0, 7)[..8], [0, 0, 7, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn each_request_of_each_queue_has_a_place_of_its_own_for_its_bytes() {
        assert_eq!(bytes_at(0, 0), 0x8000_0000);
        assert_eq!(bytes_at(0, 1), 0x8000_0000 + (32 << 20));
        assert_eq!(bytes_at(0, 127), 0x8000_0000 + (127 << 25));
        assert_eq!(bytes_at(3, 2), 0x8000_0000 + (3 << 41) + (2 << 25));
    }

    #[test]
    fn how_a_device_is_lies_as_the_kernel_has_it() {
        let info = Info {
            queues: 0x0201,
            depth: 0x0403,
            is_live: true,
            request_bytes: 0x0807_0605,
            device: 0x0c0b_0a09,
            process: 0x100f_0e0d,
            features: 0x1817_1615_1413_1211,
            mark: 0x201f_1e1d_1c1b_1a19,
        };
        let expected = [
            [1, 2, 3, 4, 1, 0, 0, 0],
            [5, 6, 7, 8, 9, 10, 11, 12],
            [13, 14, 15, 16, 0, 0, 0, 0],
            [17, 18, 19, 20, 21, 22, 23, 24],
            [25, 26, 27, 28, 29, 30, 31, 32],
            [0; 8],
            [0; 8],
            [0; 8],
        ];
        let mut bytes = info.encode();
        assert_eq!(bytes[..], expected.concat());
        assert_eq!(Info::decode(&bytes), info);
        // Dead, quiesced, failing.
        for state in [0, 2, 3] {
            bytes[4] = state;
            assert!(!Info::decode(&bytes).is_live, "{state}");
        }
    }

    #[test]
    fn what_may_be_asked_lies_as_the_kernel_has_it() {
        let parameters = Parameters {
            attributes: attribute::CACHE | attribute::DURABLE,
            sector: 512,
            block: 4096,
            best: 1 << 20,
            request_bytes: 1 << 20,
            size: 0x0605_0403_0201 << 9,
            range_bytes: 0x0403_0201 << 9,
        };
        let (sizes, range) = ([1, 2, 3, 4, 5, 6, 0, 0], [1, 2, 3, 0]);
        let whole = [[60, 0, 0, 0, 3, 0, 0, 0], [12, 0, 0, 0, 9, 12, 20, 12], [0, 8, 0, 0, 0, 0, 0, 0]];
        let discards = [[0, 0, 0, 0], [0, 16, 0, 0], range, range, [1, 0, 0, 0]];
        let expected = [whole.concat(), sizes.to_vec(), vec![0; 8], discards.concat()].concat();
        assert_eq!(parameters.encode()[..], expected);
    }
}
