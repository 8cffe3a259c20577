//! The handshake: from the greeting to the transmission phase.
//!
//! Invariants:
//! - What the client sends is cut into messages by its bytes alone: however they are split over packets, the
//!   answers are the same.
//! - Nothing that was agreed on in the clear outlives the change to TLS.
//! - Bytes and options of one client are bounded, whatever it asks for.

use super::wire::{
    ALLOCATION, ALLOCATION_ID, BLOCK_MIN, BLOCK_PREFERRED, FIXED_NEWSTYLE, Fields, GREETING, HANDSHAKE_FLAGS,
    Mode, NO_ZEROES, OPTION, OPTION_REPLY, PAYLOAD_MAX, STRING_MAX, Violation, answer, flag, info, name,
    option,
};

/// Bytes of an option's data that are looked at; what has more is skipped and refused.
pub const OPTION_BYTES_MAX: usize = 64 << 10;
/// Options of one client.
pub const OPTIONS_MAX: u32 = 16 << 10;
/// Bytes of all of them.
pub const BYTES_MAX: usize = 4 << 20;

/// Bytes before an option's data.
const OPTION_HEADER: usize = 16;

/// Whether the connection must be, may be or cannot be encrypted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tls {
    /// There is no certificate.
    Off,
    /// As the client likes it.
    Optional,
    /// A client learns nothing before.
    Required,
}

/// What is served under a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Export {
    /// Its own name, also where a client asked for the one without a name.
    pub name: String,
    /// For people.
    pub description: String,
    /// In bytes.
    pub size: u64,
    /// Nobody may write.
    pub read_only: bool,
}

impl Export {
    /// The transmission flags; `allocation` when its context was selected.
    pub fn flags(&self, mode: Mode, allocation: bool) -> u16 {
        let always = flag::HAS_FLAGS | flag::CAN_MULTI_CONN | flag::SEND_CACHE;
        let writing = flag::SEND_FLUSH
            | flag::SEND_FUA
            | flag::SEND_TRIM
            | flag::SEND_WRITE_ZEROES
            | flag::SEND_FAST_ZERO;
        let mut flags = always | if self.read_only { flag::READ_ONLY } else { writing };
        if mode >= Mode::Structured {
            flags |= flag::SEND_DF;
        }
        if mode == Mode::Extended && allocation {
            flags |= flag::BLOCK_STATUS_PAYLOAD;
        }
        flags
    }
}

/// Who knows what is served.
pub trait Exports {
    /// All names.
    fn names(&self) -> Vec<String>;
    /// The export of that name. The empty one is the only export, where there is one only.
    fn find(&self, name: &str) -> Option<Export>;
}

/// What was agreed on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agreed {
    /// What the client uses.
    pub export: Export,
    /// How requests and replies look.
    pub mode: Mode,
    /// The client may ask what is allocated.
    pub allocation: bool,
}

/// What comes next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// More bytes must come first.
    More,
    /// A message was taken; its answer, if it has one, is ready to be sent.
    Taken,
    /// What is ready is sent, and the rest is encrypted: [`Negotiation::encrypted`].
    StartTls,
    /// What is ready is sent, and requests follow.
    Transmit(Agreed),
    /// What is ready is sent, and the connection ends.
    Close,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Flags,
    Options,
    /// So many bytes of an option that is too long are still to come.
    Skipping(usize),
}

/// The server's side of one handshake.
pub struct Negotiation {
    phase: Phase,
    tls: Tls,
    is_encrypted: bool,
    mode: Mode,
    no_zeroes: bool,
    /// For which export the context was selected.
    allocation: Option<String>,
    options: u32,
    bytes: usize,
    ready: Vec<u8>,
}

impl Negotiation {
    /// A handshake that begins with the greeting, which is ready to be sent.
    pub fn new(tls: Tls) -> Negotiation {
        let mut ready = Vec::new();
        ready.extend(GREETING.to_be_bytes());
        ready.extend(OPTION.to_be_bytes());
        ready.extend(HANDSHAKE_FLAGS.to_be_bytes());
        Negotiation {
            phase: Phase::Flags,
            tls,
            is_encrypted: false,
            mode: Mode::Simple,
            no_zeroes: false,
            allocation: None,
            options: 0,
            bytes: 0,
            ready,
        }
    }

    /// What is to be sent now.
    pub fn take_ready(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ready)
    }

    /// The connection is encrypted from here on.
    pub fn encrypted(&mut self) {
        self.is_encrypted = true;
        self.mode = Mode::Simple;
        self.allocation = None;
    }

    /// Looks at the first message of `input`. Returns how many bytes of it were taken, none with [`Step::More`].
    ///
    /// # Errors
    /// [`Violation`], when nothing can be said to that.
    pub fn advance(&mut self, input: &[u8], exports: &dyn Exports) -> Result<(usize, Step), Violation> {
        let (taken, step) = match self.phase {
            Phase::Flags => self.client_flags(input)?,
            Phase::Skipping(left) => {
                let taken = left.min(input.len());
                let still = left - taken;
                self.phase = if still == 0 { Phase::Options } else { Phase::Skipping(still) };
                (taken, if taken == 0 { Step::More } else { Step::Taken })
            }
            Phase::Options => self.option(input, exports)?,
        };
        self.bytes += taken;
        if self.bytes > BYTES_MAX {
            return Err(Violation("more is negotiated than there is to say"));
        }
        Ok((taken, step))
    }

    fn client_flags(&mut self, input: &[u8]) -> Result<(usize, Step), Violation> {
        let Some(flags) = Fields(input).u32() else { return Ok((0, Step::More)) };
        if flags & !u32::from(HANDSHAKE_FLAGS) != 0 {
            return Err(Violation("the client's handshake flags are unknown"));
        }
        if flags & u32::from(FIXED_NEWSTYLE) == 0 {
            return Err(Violation("the client does not know fixed newstyle"));
        }
        self.no_zeroes = flags & u32::from(NO_ZEROES) != 0;
        self.phase = Phase::Options;
        Ok((4, Step::Taken))
    }

    fn option(&mut self, input: &[u8], exports: &dyn Exports) -> Result<(usize, Step), Violation> {
        let mut fields = Fields(input);
        let Some(magic) = fields.u64() else { return Ok((0, Step::More)) };
        if magic != OPTION {
            return Err(Violation("what should be an option is none"));
        }
        let (Some(option), Some(length)) = (fields.u32(), fields.u32()) else { return Ok((0, Step::More)) };
        let length = usize::try_from(length).map_err(|_| Violation("an option longer than memory"))?;
        if length > OPTION_BYTES_MAX {
            self.count()?;
            if option == option::EXPORT_NAME {
                return Err(Violation("the name of an export is too long"));
            }
            self.refuse(option, answer::ERR_TOO_BIG, "the option is too long");
            self.phase = Phase::Skipping(length);
            return Ok((OPTION_HEADER, Step::Taken));
        }
        let Some(data) = fields.bytes(length) else { return Ok((0, Step::More)) };
        self.count()?;
        let step = match option {
            option::ABORT => {
                self.answer(option, answer::ACK, &[]);
                Step::Close
            }
            option::STARTTLS => self.start_tls(data),
            option::EXPORT_NAME if self.must_encrypt() => {
                return Err(Violation("an export is asked for without TLS"));
            }
            _ if self.must_encrypt() => {
                self.refuse(option, answer::ERR_TLS_REQD, "TLS comes first here");
                Step::Taken
            }
            option::EXPORT_NAME => self.export_name(data, exports)?,
            option::LIST => self.list(data, exports),
            option::INFO | option::GO => self.go(option, data, exports),
            option::STRUCTURED_REPLY | option::EXTENDED_HEADERS => self.raise_mode(option, data),
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => self.contexts(option, data, exports),
            _ => {
                self.refuse(option, answer::ERR_UNSUP, "the option is unknown");
                Step::Taken
            }
        };
        Ok((OPTION_HEADER + length, step))
    }

    fn count(&mut self) -> Result<(), Violation> {
        self.options += 1;
        if self.options > OPTIONS_MAX { Err(Violation("too many options")) } else { Ok(()) }
    }

    fn must_encrypt(&self) -> bool {
        self.tls == Tls::Required && !self.is_encrypted
    }

    fn start_tls(&mut self, data: &[u8]) -> Step {
        let refusal = match (data.is_empty(), self.tls, self.is_encrypted) {
            (false, ..) => Some((answer::ERR_INVALID, "the option has no data")),
            (_, _, true) => Some((answer::ERR_INVALID, "the connection is encrypted already")),
            (_, Tls::Off, _) => Some((answer::ERR_POLICY, "TLS is not set up here")),
            _ => None,
        };
        match refusal {
            Some((kind, text)) => {
                self.refuse(option::STARTTLS, kind, text);
                Step::Taken
            }
            None => {
                self.answer(option::STARTTLS, answer::ACK, &[]);
                Step::StartTls
            }
        }
    }

    fn export_name(&mut self, data: &[u8], exports: &dyn Exports) -> Result<Step, Violation> {
        if self.mode == Mode::Extended {
            return Err(Violation("extended headers and this way to name an export exclude each other"));
        }
        let name = name(data).ok_or(Violation("the name of an export is no string"))?;
        let export = exports.find(name).ok_or(Violation("there is no such export"))?;
        let agreed = self.agreed(export);
        self.ready.extend(agreed.export.size.to_be_bytes());
        self.ready.extend(agreed.export.flags(self.mode, agreed.allocation).to_be_bytes());
        if !self.no_zeroes {
            self.ready.extend([0; 124]);
        }
        Ok(Step::Transmit(agreed))
    }

    fn list(&mut self, data: &[u8], exports: &dyn Exports) -> Step {
        if !data.is_empty() {
            self.refuse(option::LIST, answer::ERR_INVALID, "the option has no data");
            return Step::Taken;
        }
        for name in exports.names() {
            let length = u32::try_from(name.len()).expect("a name is short");
            self.answer(option::LIST, answer::SERVER, &[&length.to_be_bytes(), name.as_bytes()]);
        }
        self.answer(option::LIST, answer::ACK, &[]);
        Step::Taken
    }

    fn go(&mut self, option: u32, data: &[u8], exports: &dyn Exports) -> Step {
        let parsed = || {
            let mut fields = Fields(data);
            let name = fields.string()?;
            let count = fields.u16()?;
            let wanted: Option<Vec<u16>> = (0..count).map(|_| fields.u16()).collect();
            fields.0.is_empty().then_some((name, wanted?))
        };
        let Some((name, wanted)) = parsed() else {
            self.refuse(option, answer::ERR_INVALID, "the option's data is malformed");
            return Step::Taken;
        };
        let Some(export) = exports.find(name) else {
            self.refuse(option, answer::ERR_UNKNOWN, "there is no such export");
            return Step::Taken;
        };
        let agreed = self.agreed(export);
        let export = &agreed.export;
        // Whoever only asks is told what it could have.
        let allocation = agreed.allocation || option == option::INFO;
        let flags = export.flags(self.mode, allocation);
        let size = export.size.to_be_bytes();
        self.answer(option, answer::INFO, &[&info::EXPORT.to_be_bytes(), &size, &flags.to_be_bytes()]);
        if wanted.contains(&info::NAME) {
            self.answer(option, answer::INFO, &[&info::NAME.to_be_bytes(), export.name.as_bytes()]);
        }
        if wanted.contains(&info::DESCRIPTION) {
            let text = export.description.as_bytes();
            self.answer(option, answer::INFO, &[&info::DESCRIPTION.to_be_bytes(), text]);
        }
        let sizes = [BLOCK_MIN, BLOCK_PREFERRED, PAYLOAD_MAX].map(u32::to_be_bytes);
        let kind = info::BLOCK_SIZE.to_be_bytes();
        self.answer(option, answer::INFO, &[&kind, &sizes[0], &sizes[1], &sizes[2]]);
        self.answer(option, answer::ACK, &[]);
        if option == option::GO { Step::Transmit(agreed) } else { Step::Taken }
    }

    fn agreed(&self, export: Export) -> Agreed {
        let allocation = self.allocation.as_ref() == Some(&export.name);
        Agreed { export, mode: self.mode, allocation }
    }

    fn raise_mode(&mut self, option: u32, data: &[u8]) -> Step {
        let wanted = if option == option::EXTENDED_HEADERS { Mode::Extended } else { Mode::Structured };
        if !data.is_empty() {
            self.refuse(option, answer::ERR_INVALID, "the option has no data");
        } else if self.mode == Mode::Extended && wanted == Mode::Structured {
            self.refuse(option, answer::ERR_EXT_HEADER_REQD, "extended headers are agreed on already");
        } else if self.mode == wanted {
            self.refuse(option, answer::ERR_INVALID, "this is agreed on already");
        } else {
            self.mode = wanted;
            self.answer(option, answer::ACK, &[]);
        }
        Step::Taken
    }

    fn contexts(&mut self, option: u32, data: &[u8], exports: &dyn Exports) -> Step {
        let selects = option == option::SET_META_CONTEXT;
        if selects {
            self.allocation = None;
        }
        if self.mode < Mode::Structured {
            self.refuse(option, answer::ERR_INVALID, "structured replies come first");
            return Step::Taken;
        }
        let parsed = || {
            let mut fields = Fields(data);
            let name = fields.string()?;
            let count = fields.u32()?;
            // Each takes bytes: a count that lies ends the parsing.
            let queries: Option<Vec<&str>> = (0..count).map(|_| fields.string()).collect();
            let queries = queries?;
            let has_namespaces = queries.iter().all(|query| query.contains(':'));
            (fields.0.is_empty() && has_namespaces).then_some((name, queries))
        };
        let Some((name, queries)) = parsed() else {
            self.refuse(option, answer::ERR_INVALID, "the option's data is malformed");
            return Step::Taken;
        };
        let Some(export) = exports.find(name) else {
            self.refuse(option, answer::ERR_UNKNOWN, "there is no such export");
            return Step::Taken;
        };
        let lists = !selects && (queries.is_empty() || queries.contains(&"base:"));
        if lists || queries.contains(&ALLOCATION) {
            let id = if selects { ALLOCATION_ID } else { 0 };
            self.answer(option, answer::META_CONTEXT, &[&id.to_be_bytes(), ALLOCATION.as_bytes()]);
            if selects {
                self.allocation = Some(export.name);
            }
        }
        self.answer(option, answer::ACK, &[]);
        Step::Taken
    }

    fn refuse(&mut self, option: u32, kind: u32, text: &str) {
        self.answer(option, kind, &[text.as_bytes()]);
    }

    fn answer(&mut self, option: u32, kind: u32, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        debug_assert!(length <= STRING_MAX + 16, "answers are short");
        self.ready.extend(OPTION_REPLY.to_be_bytes());
        self.ready.extend(option.to_be_bytes());
        self.ready.extend(kind.to_be_bytes());
        self.ready.extend(u32::try_from(length).expect("answers are short").to_be_bytes());
        parts.iter().for_each(|part| self.ready.extend_from_slice(part));
    }
}

#[cfg(test)]
#[path = "negotiate_tests.rs"]
mod tests;
