//! Asks at the terminal before something is destroyed.

use std::io::{BufRead, IsTerminal, Write, stderr, stdin};

/// The only answer that lets it happen.
const YES: &str = "yes";

/// Whether a person sits at this process's terminal: sees what is asked, and can answer. A script does not.
pub(crate) fn is_seated() -> bool {
    stdin().is_terminal() && stderr().is_terminal()
}

/// Whether the person answers yes. Everything else is no, and so is the end of the input.
pub(crate) fn ask(question: &str) -> bool {
    ask_by(question, &mut stdin().lock(), &mut stderr())
}

fn ask_by(question: &str, input: &mut impl BufRead, out: &mut impl Write) -> bool {
    let asked =
        write!(out, "paritas: {question}\nparitas: type '{YES}' to go on: ").and_then(|()| out.flush());
    let mut answer = String::new();
    let read = asked.and_then(|()| input.read_line(&mut answer));
    read.is_ok() && answer.trim() == YES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        let answer = |text: &str| {
            let mut out = Vec::new();
            let agrees = ask_by("destroy 'v'?", &mut text.as_bytes(), &mut out);
            let asked = String::from_utf8(out).expect("UTF-8");
            assert!(asked.contains("destroy 'v'?") && asked.contains("'yes'"), "{asked}");
            agrees
        };
        assert!(["yes\n", "yes", " yes \r\n"].into_iter().all(answer));
        assert!(
            !["", "\n", "y\n", "Yes\n", "YES\n", "no\n", "yes please\n", "no\nyes\n"].into_iter().any(answer)
        );
    }
}
