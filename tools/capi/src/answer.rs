//! What a call answers: a code for the program, and a message for people, which the thread keeps.

use crate::code::Code;
use engine::error::Error;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) text: String,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { code: Code::of(&error), text: error.to_string() }
    }
}

impl Failure {
    pub(crate) fn invalid(text: impl Into<String>) -> Failure {
        Failure { code: Code::Invalid, text: text.into() }
    }
}

thread_local! {
    static MESSAGE: RefCell<CString> = RefCell::default();
    static COMPLETIONS: RefCell<Vec<CString>> = const { RefCell::new(Vec::new()) };
}

/// A message as C reads it.
fn sentence(text: &str) -> CString {
    let bytes: Vec<u8> = text.bytes().filter(|byte| *byte != 0).collect();
    CString::new(bytes).expect("without zero bytes")
}

/// Carries out a call: its code, with the message kept for this thread. A panic is a code like every other.
pub(crate) fn guard(call: impl FnOnce() -> Result<(), Failure>) -> Code {
    let failure = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => return Code::Ok,
        Ok(Err(failure)) => failure,
        Err(panic) => {
            // What was thrown may panic when it is dropped, and nobody is left to catch that.
            std::mem::forget(panic);
            Failure {
                code: Code::Defect,
                text: "libparitas has a defect: it panicked; stderr has more".into(),
            }
        }
    };
    // A thread that ends has no message any more; the code is all it gets.
    let _ended = MESSAGE.try_with(|message| message.replace(sentence(&failure.text))).is_err();
    failure.code
}

/// Keeps the messages of the completions that this thread is given, until it is given others. As pointers, in order,
/// null for what went well.
pub(crate) fn keep<'a>(results: impl Iterator<Item = Option<&'a Error>> + Clone) -> Vec<*const c_char> {
    let kept: Vec<CString> = results.clone().flatten().map(|error| sentence(&error.to_string())).collect();
    let texts: Vec<*const c_char> = kept.iter().map(|text| text.as_ptr()).collect();
    let ended = COMPLETIONS.try_with(|messages| messages.replace(kept)).is_err();
    let mut texts = texts.into_iter().filter(|_| !ended);
    results.map(|error| error.and_then(|_| texts.next()).unwrap_or(ptr::null())).collect()
}

/// The message of this thread's last call that failed. It ends with the thread.
pub(crate) fn message() -> *const c_char {
    const NONE: &CStr = c"";
    MESSAGE.try_with(|message| message.borrow().as_ptr()).unwrap_or(NONE.as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_code_whatever_it_threw() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        assert_eq!(guard(|| panic!("a defect")), Code::Defect);
        assert_eq!(guard(|| std::panic::panic_any(Bomb)), Code::Defect);
        assert_eq!(guard(|| Ok(())), Code::Ok);
    }

    #[test]
    fn a_message_never_ends_early() {
        assert_eq!(sentence("a\0b").as_c_str(), c"ab");
    }

    #[test]
    fn messages_of_completions_are_beside_their_results() {
        let (one, two) = (Error::io("one"), Error::io("two"));
        let kept = keep([Some(&one), None, Some(&two)].into_iter());
        assert_eq!(kept.iter().map(|text| text.is_null()).collect::<Vec<_>>(), [false, true, false]);
    }
}
