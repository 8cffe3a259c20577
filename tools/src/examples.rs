//! What `--help` shows last: for every command what one may type, and for the program what its exit codes mean.

use crate::outcome::EXIT_CODES;
use clap::Command;

/// By the words of a command, what to type.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "mkfs",
        &[
            "paritas mkfs --size 10G --scheme 2+1 array/a array/b array/c",
            "paritas mkfs /dev/sdb /dev/sdc /dev/sdd /dev/sde /dev/sdf",
        ],
    ),
    ("status", &["paritas status array", "paritas status /dev/sdb --json"]),
    ("volume", &["paritas volume create array:mail --size 100G"]),
    (
        "volume create",
        &[
            "paritas volume create array:mail --size 100G",
            "paritas volume create array:keys --size 1G --scheme mirror3",
        ],
    ),
    ("volume list", &["paritas volume list array"]),
    ("volume delete", &["paritas volume delete array:mail", "paritas volume delete array:mail --yes"]),
    ("volume resize", &["paritas volume resize array:mail --size 200G"]),
    ("import", &["paritas import disk.img array:mail", "zcat disk.img.gz | paritas import - array:mail"]),
    ("export", &["paritas export array:mail disk.img", "paritas export array:mail - | gzip > disk.img.gz"]),
    ("fail", &["paritas fail array /dev/sdc", "paritas fail array 1"]),
    ("online", &["paritas online array /dev/sdc", "paritas online array 1 --at /dev/sdg --no-wait"]),
    ("replace", &["paritas replace array /dev/sdc /dev/sdg", "paritas replace array 1 array/new --no-wait"]),
    ("rebuild", &["paritas rebuild array", "paritas rebuild array --limit 100M"]),
    ("scrub", &["paritas scrub array --limit 200M --no-wait", "paritas scrub array --stop"]),
    ("watch", &["paritas watch array"]),
    ("events", &["paritas events array", "paritas events /dev/sdb --follow --count 0 --json"]),
    ("iostat", &["paritas iostat array 5", "paritas iostat array 1 --count 60 --json"]),
    ("clear", &["paritas clear array"]),
    (
        "inject",
        &[
            "paritas inject array /dev/sdc slow --delay 2s --chance 10%",
            "paritas inject array 1 rot --count 100",
            "paritas inject array --remove all",
        ],
    ),
    ("inspect", &["paritas inspect /dev/sdb --records"]),
    ("bench", &["paritas bench --scheme 4+2 --only 'random read' --seconds 10"]),
    (
        "serve",
        &[
            "paritas serve array",
            "paritas serve array --listen 0.0.0.0:10809 --tls-cert cert.pem --tls-key key.pem --export mail",
        ],
    ),
    (
        "attach",
        &[
            "paritas attach array:mail",
            "paritas attach array:mail --sector 512 --read-only",
            "paritas attach array:mail --means ublk",
        ],
    ),
    ("detach", &["paritas detach /dev/loop7"]),
    ("salvage", &["paritas salvage array"]),
    ("demo", &["paritas demo --input src"]),
    ("sim", &["paritas sim --seeds 1000 --require-all", "paritas sim --crash-enumeration --ops 2"]),
    ("completions", &["paritas completions bash > /etc/bash_completion.d/paritas"]),
    ("man", &["paritas man /usr/local/share/man/man1"]),
    ("schema", &["paritas schema > paritas.schema.json", "paritas schema volume create"]),
];

/// The command line with its examples.
pub(crate) fn with_examples(command: Command) -> Command {
    let command = command.after_help(EXIT_CODES);
    EXAMPLES.iter().fold(command, |command, (words, lines)| {
        let words: Vec<&str> = words.split(' ').collect();
        add(command, &words, &format!("Examples:\n  {}", lines.join("\n  ")))
    })
}

fn add(command: Command, words: &[&str], text: &str) -> Command {
    match words {
        [] => command.after_help(text.to_owned()),
        // One that this build does not have has no use for an example.
        [first, ..] if command.find_subcommand(first).is_none() => command,
        [first, rest @ ..] => command.mut_subcommand(first, |below| add(below, rest, text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    /// The words of what is typed, up to where a shell takes over. Those in quotes are one.
    fn words(line: &str) -> Vec<String> {
        let own = line.rsplit(" | ").find(|part| part.starts_with("paritas ")).unwrap_or(line);
        let own = own.split(" > ").next().unwrap_or(own);
        let mut words = Vec::new();
        for (at, part) in own.split('\'').enumerate() {
            match at % 2 {
                0 => words.extend(part.split_whitespace().map(str::to_owned)),
                _ => words.push(part.to_owned()),
            }
        }
        words
    }

    /// Commands that a user may see, by their words.
    fn visible(command: &Command, before: &str, found: &mut Vec<String>) {
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            let name = format!("{before}{}", below.get_name());
            visible(below, &format!("{name} "), found);
            found.push(name);
        }
    }

    #[test]
    fn every_command_has_examples_that_it_takes() {
        let mut all = Vec::new();
        visible(&Cli::command(), "", &mut all);
        for name in &all {
            assert!(EXAMPLES.iter().any(|(words, _)| words == name), "{name} has no example");
        }
        for (name, lines) in EXAMPLES {
            assert!(all.iter().any(|other| other == name), "there is no command {name}");
            for line in *lines {
                let words = words(line);
                let family = all.iter().any(|other| other.starts_with(&format!("{name} ")));
                assert!(words[1..].join(" ").starts_with(name), "{name}: {line}");
                let taken = with_examples(Cli::command()).try_get_matches_from(&words);
                let mut taken = taken.unwrap_or_else(|error| panic!("{line}: {error}"));
                let mut taken_by = Vec::new();
                while let Some((below, matches)) = taken.remove_subcommand() {
                    taken_by.push(below);
                    taken = matches;
                }
                let taken_by = taken_by.join(" ");
                assert!(taken_by == *name || family && taken_by.starts_with(name), "{line}: {taken_by}");
            }
        }
    }

    #[test]
    fn help_shows_them() {
        let mut command = with_examples(Cli::command());
        assert!(command.render_help().to_string().contains("70  this program has a defect"));
        let create =
            command.find_subcommand_mut("volume").and_then(|volume| volume.find_subcommand_mut("create"));
        let help = create.expect("a command").render_long_help().to_string();
        assert!(help.contains("Examples:\n  paritas volume create array:mail --size 100G\n"), "{help}");
    }
}
