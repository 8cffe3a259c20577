//! Style and architecture as tests: what every file must look like, and which module may use which.
//!
//! The tables at the top are the house's plan (ARCHITECTURE.md): a new module gets a row in [`ARROWS`] before
//! it gets a second file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// What each top module of `src` may use besides itself. A module without a row fails the test. `lib`
/// (the front page) and `sim` may use everything. Test modules are free, except that they keep away from
/// the simulator as well.
const ARROWS: &[(&str, &str)] = &[
    ("types", "limits error"),
    ("limits", "types error"),
    ("error", "types limits"),
    ("zoo", "types"),
    ("checksum", "types limits error"),
    ("codec", "types limits error zoo"),
    ("layout", "types limits error zoo"),
    ("format", "types limits error checksum zoo"),
    ("runtime", "types error"),
    ("device", "types error zoo runtime"),
    ("pool", "types limits error format layout zoo device runtime"),
    ("space", "types limits error format layout zoo"),
    ("stripe", "types limits error format codec checksum layout zoo device runtime pool space"),
    ("map", "types limits error format zoo"),
    ("log", "types limits error format codec checksum layout zoo device runtime pool space stripe map"),
    (
        "commit",
        "types limits error format codec checksum layout zoo device runtime pool space stripe map log",
    ),
    (
        "maintain",
        "types limits error format codec checksum layout zoo device runtime pool space stripe map log commit",
    ),
    (
        "volume",
        "types limits error format codec checksum layout zoo device runtime pool space stripe map log commit \
         maintain",
    ),
    ("frontend", "types limits error device volume"),
    ("sim", "*"),
    ("lib", "*"),
];

/// The only modules that may name what [`is_machinery`] knows (rule 12 of the design). The zoo plants its bugs thread
/// by thread.
const MACHINERY: &[&str] = &["runtime", "device", "zoo"];

/// And the folders of other modules: where clients, and where the kernel are served, what wakes their threads, and what
/// limits the lines that they say. The protocols beside them have none.
const MACHINERY_FOLDERS: &[&str] = &[
    "src/frontend/nbd/server/",
    "src/frontend/fuse/server/",
    "src/frontend/ublk/server/",
    "src/frontend/bell.rs",
    "src/frontend/complaints.rs",
];

/// The modules that may name the simulator.
const SIMULATOR: &[&str] = &["sim", "lib"];

/// Folders with Rust source that these tests read, and folders with a Cargo.toml.
const FOLDERS: &[&str] = &[
    "src",
    "tools/src",
    "tools/tests",
    "tools/capi/src",
    "tools/capi/tests",
    "tests",
    "benches",
    "fuzz/fuzz_targets",
];
const PACKAGES: &[&str] = &["", "tools", "tools/capi", "fuzz"];

const LINES_MAX: usize = 800;
const COLUMNS_MAX: usize = 120;

/// Threads, locks, atomics and clocks.
fn is_machinery(word: &str) -> bool {
    let atomic = word.strip_prefix("Atomic").is_some_and(|rest| rest.starts_with(char::is_uppercase));
    atomic
        || matches!(word, "thread" | "thread_local" | "parking_lot" | "Mutex" | "RwLock" | "Condvar")
        || matches!(word, "Instant" | "SystemTime")
}

/// Words that mark unfinished work; put together here so that this file passes.
const UNFINISHED: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

/// Folders that exist on one machine only.
const MACHINE_PATHS: [&str; 3] = [concat!("/", "work"), concat!("/", "root"), concat!("/", "home")];

/// A source file, line by line.
struct Source {
    path: String,
    lines: Vec<Line>,
}

/// A line of a source file.
struct Line {
    /// As it stands in the file.
    raw: String,
    /// Without comments and without what stands in literals.
    code: String,
    /// Whether it is compiled for tests only.
    test: bool,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        let code = code_of(text);
        let whole = in_folder(path, "tests") || in_folder(path, "benches") || path.ends_with("tests.rs");
        let test = test_lines(&code);
        let lines = text
            .lines()
            .zip(code.split('\n'))
            .zip(test)
            .map(|((raw, code), test)| Line { raw: raw.into(), code: code.into(), test: whole || test })
            .collect();
        Source { path: path.into(), lines }
    }

    /// The top module of `src` that the file belongs to.
    fn module(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src/")?;
        rest.split('/').next().map(|first| first.trim_end_matches(".rs"))
    }

    /// How many times `super` leads from this file to the crate's root.
    fn depth(&self) -> usize {
        let folders = self.path.matches('/').count();
        if self.path.ends_with("/mod.rs") { folders - 1 } else { folders }
    }

    /// The code outside test modules, one string with the file's line breaks.
    fn library_code(&self) -> String {
        let lines = self.lines.iter().map(|line| if line.test { "" } else { line.code.as_str() });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// A complaint for every line that `wrong` objects to.
    fn complaints(&self, wrong: impl Fn(&Line) -> Option<String>) -> Vec<String> {
        let numbered = self.lines.iter().zip(1..);
        numbered.filter_map(|(line, at)| Some(format!("{}:{at}: {}", self.path, wrong(line)?))).collect()
    }
}

fn in_folder(path: &str, folder: &str) -> bool {
    path.split('/').rev().skip(1).any(|part| part == folder)
}

/// Drops comments and what stands in string and character literals; keeps line breaks.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let in_word = code.ends_with(is_word);
        let (taken, kept) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), "")
        } else if rest.starts_with("/*") {
            (block_comment(rest), "")
        } else if let Some(length) = (!in_word).then(|| raw_string(rest)).flatten() {
            (length, "\"\"")
        } else if first == '"' {
            (1 + quoted(&rest[1..], '"'), "\"\"")
        } else if first == '\'' && is_character(rest) {
            (1 + quoted(&rest[1..], '\''), "' '")
        } else {
            (first.len_utf8(), &rest[..first.len_utf8()])
        };
        code.push_str(kept);
        if kept != "\n" {
            code.extend(rest[..taken].chars().filter(|&c| c == '\n'));
        }
        rest = &rest[taken..];
    }
    code
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Bytes of the nested comment at the start of `text`.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let step = match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

/// Bytes of the raw string at the start of `text`.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = body.find(&close).map_or(body.len(), |at| at + close.len());
    Some(text.len() - body.len() + end)
}

/// Bytes up to and with the closing `quote`.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Whether the quote at the start of `text` opens a character, not a lifetime.
fn is_character(text: &str) -> bool {
    let mut after = text.chars().skip(1);
    after.next() == Some('\\') || after.next() == Some('\'')
}

/// Which lines of `code` belong to an item that is compiled for tests only.
fn test_lines(code: &str) -> Vec<bool> {
    let mut test = vec![false; code.split('\n').count()];
    let marks = ["#[cfg(test)]", "#[cfg(all(test,"];
    for (start, _) in marks.iter().flat_map(|mark| code.match_indices(mark)) {
        let (mut depth, mut end) = (0, code.len());
        for (at, c) in code.char_indices().skip_while(|(at, _)| *at < start) {
            match c {
                '{' | '[' | '(' => depth += 1,
                '}' | ']' | ')' => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(c, '}' | ';') {
                end = at;
                break;
            }
        }
        let line = |at: usize| code[..at].matches('\n').count();
        test[line(start)..=line(end)].fill(true);
    }
    test
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

/// Files are small enough to read in one sitting.
fn length(source: &Source) -> Vec<String> {
    let lines = source.lines.len();
    if lines <= LINES_MAX {
        vec![]
    } else {
        vec![format!("{}: {lines} lines, at most {LINES_MAX}", source.path)]
    }
}

/// Lines fit; in tests and golden images what stands in literals does not count.
fn width(source: &Source) -> Vec<String> {
    let golden = source.path.contains("golden");
    source.complaints(|line| {
        let comment = line.raw.trim_start().starts_with("//");
        let text = if (golden || line.test) && !comment { &line.code } else { &line.raw };
        let columns = text.trim_end().chars().count();
        (columns > COLUMNS_MAX).then(|| format!("{columns} columns, at most {COLUMNS_MAX}"))
    })
}

/// Nothing is unfinished, left over from debugging, or switched off.
fn finished(source: &Source) -> Vec<String> {
    source.complaints(|line| {
        let macros = ["todo!", "dbg!", "unimplemented!", "#[ignore"];
        let left = macros.iter().find(|name| line.code.contains(**name) && !runs_elsewhere(&line.raw));
        left.or_else(|| UNFINISHED.iter().find(|word| line.raw.contains(**word)))
            .map(|what| format!("has {what}"))
    })
}

/// A test that `cargo test` leaves out because a script runs it, which it names: `#[ignore = "REASON: SCRIPT"]`.
fn runs_elsewhere(line: &str) -> bool {
    let reason = line.trim().strip_prefix("#[ignore = \"").and_then(|rest| rest.strip_suffix("\"]"));
    let script = reason.and_then(|reason| reason.rsplit_once(": "));
    script.is_some_and(|(_, script)| script.starts_with("tests/") && Path::new(script).is_file())
}

/// No path of the machine that it was written on.
fn portable(source: &Source) -> Vec<String> {
    source.complaints(|line| {
        MACHINE_PATHS
            .iter()
            .find(|path| {
                line.raw.match_indices(**path).any(|(at, _)| {
                    let before = line.raw[..at].chars().next_back();
                    let after = line.raw[at + path.len()..].chars().next();
                    let path_goes_on = |c: char| is_word(c) || matches!(c, '.' | '-' | '/' | '*' | '}');
                    !before.is_some_and(path_goes_on) && !after.is_some_and(is_word)
                })
            })
            .map(|path| format!("names {path}, a folder of one machine"))
    })
}

/// ASCII only: what one sees is what is compiled.
fn ascii(source: &Source) -> Vec<String> {
    source.complaints(|line| {
        line.raw.chars().find(|c| !c.is_ascii()).map(|c| format!("has {}", c.escape_unicode()))
    })
}

/// Threads, locks, atomics and clocks stay in their rooms.
fn machinery(source: &Source) -> Vec<String> {
    let has_room = MACHINERY_FOLDERS.iter().any(|folder| source.path.starts_with(folder));
    if has_room || source.module().is_none_or(|module| MACHINERY.contains(&module)) {
        return vec![];
    }
    source.complaints(|line| {
        let word = words(&line.code).find(|word| is_machinery(word)).filter(|_| !line.test)?;
        Some(format!("names {word}; only {} may", MACHINERY.join(" and ")))
    })
}

/// Nothing knows that it is simulated, tests included.
fn simulator(source: &Source) -> Vec<String> {
    if source.module().is_none_or(|module| SIMULATOR.contains(&module)) {
        return vec![];
    }
    source.complaints(|line| line.code.contains("crate::sim").then(|| "uses the simulator".into()))
}

/// Modules use only what their row in [`ARROWS`] lists.
fn arrows(source: &Source) -> Vec<String> {
    let Some(module) = source.module() else { return vec![] };
    let rows: BTreeMap<&str, &str> = ARROWS.iter().copied().collect();
    let Some(allowed) = rows.get(module) else {
        return vec![format!("{}: module {module} has no row in ARROWS", source.path)];
    };
    let used = used_modules(&source.library_code(), source.depth());
    let wrong = used.iter().filter(|(name, _)| {
        let known = rows.contains_key(name.as_str());
        name != module && !(known && (*allowed == "*" || allowed.split(' ').any(|other| other == name)))
    });
    let may = if *allowed == "*" { "all that have a row" } else { allowed };
    wrong
        .map(|(name, line)| format!("{}:{line}: {module} uses {name}; it may use {may}", source.path))
        .collect()
}

/// What `crate::` leads to, and `super::` from a depth where it leads to the root, with the line.
fn used_modules(code: &str, depth: usize) -> Vec<(String, usize)> {
    let mut used = Vec::new();
    let root = format!("{}::", ["super"].repeat(depth).join("::"));
    for prefix in ["crate::", &root] {
        for (at, _) in code.match_indices(prefix) {
            if code[..at].ends_with(is_word) || (prefix == root && code[..at].ends_with("super::")) {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            used.extend(heads(&code[at + prefix.len()..]).into_iter().map(|head| (head, line)));
        }
    }
    used
}

/// The first name of each path in a `use` tree: `a` and `c` of `{a::b, c}`, `a` of `a::{b, c}`.
fn heads(tree: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| is_word(*c)).collect::<String>();
    let Some(group) = tree.strip_prefix('{') else { return vec![name(tree)] };
    let (mut depth, mut starts) = (0, true);
    let mut heads = Vec::new();
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => starts = true,
            c if starts && is_word(c) => {
                heads.push(name(&group[at..]));
                starts = false;
            }
            _ => {}
        }
    }
    heads
}

/// Every dependency has its reason on the line before.
fn reasons(path: &str, manifest: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let (mut section, mut before, mut nested) = ("", "", false);
    for (line, at) in manifest.lines().zip(1..) {
        let is_header = !nested && line.starts_with('[');
        if is_header {
            section = line.trim_matches(['[', ']']);
        }
        let lists = section.ends_with("dependencies");
        let is_table = is_header && section.contains("dependencies.");
        let is_entry = lists && !is_header && !nested && line.contains('=') && !line.starts_with('#');
        if (is_table || is_entry) && !before.starts_with('#') {
            complaints.push(format!("{path}:{at}: no comment before this line says why: {line}"));
        }
        nested = (nested || line.contains('[')) && !is_header && !line.contains(']');
        before = line;
    }
    complaints
}

/// A rule: the file's offences against it.
type Rule = fn(&Source) -> Vec<String>;

const RULES: &[Rule] = &[length, width, finished, portable, ascii, machinery, simulator, arrows];

/// Every .rs file below `folder`. Paths are relative: cargo runs tests in the package's folder.
fn sources(folder: &str, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a readable folder").file_name().into_string().expect("a UTF-8 name"))
        .collect();
    names.sort();
    for name in names {
        let path = format!("{folder}/{name}");
        if Path::new(&path).is_dir() {
            sources(&path, found);
        } else if path.ends_with(".rs") {
            let text = fs::read_to_string(&path).expect("a readable UTF-8 file");
            found.push(Source::new(&path, &text));
        }
    }
}

fn assert_none(complaints: &[String]) {
    let mut text = String::new();
    for complaint in complaints {
        writeln!(text, "{complaint}").expect("a string takes everything");
    }
    assert!(complaints.is_empty(), "{} complaints:\n{text}", complaints.len());
}

#[test]
fn every_source_file_keeps_the_rules() {
    let mut found = Vec::new();
    for folder in FOLDERS {
        sources(folder, &mut found);
    }
    for expected in ["src/lib.rs", "src/codec/mod.rs", "tests/tidy.rs", "benches/codec.rs"] {
        assert!(found.iter().any(|source| source.path == expected), "{expected} was not found");
    }
    assert_none(
        &found.iter().flat_map(|source| RULES.iter().flat_map(|rule| rule(source))).collect::<Vec<_>>(),
    );
}

#[test]
fn every_dependency_says_why_it_is_there() {
    for package in PACKAGES {
        let path = Path::new(package).join("Cargo.toml");
        let manifest = fs::read_to_string(&path).expect("a package has a manifest");
        assert_none(&reasons(&path.display().to_string(), &manifest));
    }
}

/// Checks that `rule` has so many complaints about a file of this text.
fn expect(rule: Rule, path: &str, text: &str, complaints: usize) {
    let found = rule(&Source::new(path, text));
    assert_eq!(found.len(), complaints, "{path}: {text}\n{found:?}");
}

#[test]
fn length_and_width_are_bounded() {
    expect(length, "src/map/mod.rs", &"\n".repeat(LINES_MAX), 0);
    expect(length, "src/map/mod.rs", &"\n".repeat(LINES_MAX + 1), 1);
    let literal = format!("    f(\"{}\");\n", "x".repeat(COLUMNS_MAX));
    expect(width, "src/map/mod.rs", &"x".repeat(COLUMNS_MAX), 0);
    expect(width, "src/map/mod.rs", &"x".repeat(COLUMNS_MAX + 1), 1);
    expect(width, "src/map/mod.rs", &literal, 1);
    expect(width, "src/map/mod.rs", &format!("#[cfg(test)]\nmod tests {{\n{literal}}}\n{literal}"), 1);
    expect(width, "tests/map.rs", &literal, 0);
    expect(width, "src/format/golden.rs", &literal, 0);
    expect(width, "tests/map.rs", &format!("// {literal}"), 1);
    expect(width, "tests/map.rs", &"x".repeat(COLUMNS_MAX + 1), 1);
}

#[test]
fn unfinished_work_is_found_in_comments_and_code_but_not_in_literals() {
    for word in UNFINISHED {
        expect(finished, "tools/src/main.rs", &format!("// {word}: more"), 1);
    }
    expect(finished, "src/map/mod.rs", "fn f() {\n    todo!()\n}\nfn g() {\n    dbg!(1);\n}", 2);
    expect(finished, "src/map/mod.rs", "unimplemented!()", 1);
    expect(finished, "tests/map.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}\n#[ignore]", 2);
    expect(finished, "tests/map.rs", "#[ignore = \"needs root: tests/kernel\"]\nfn f() {}", 0);
    expect(finished, "tests/map.rs", "#[ignore = \"needs root: tests/nowhere\"]\nfn f() {}", 1);
    expect(finished, "src/map/mod.rs", "// dbg! is for the desk\nlet s = \"todo!\";", 0);
}

#[test]
fn paths_of_one_machine_are_found_wherever_they_stand() {
    for path in MACHINE_PATHS {
        expect(portable, "src/map/mod.rs", &format!("let a = \"{path}/x\";\n// {path}"), 2);
        expect(portable, "src/map/mod.rs", &format!("a{path}/b {path}s ..{path} */{path}"), 0);
    }
}

#[test]
fn only_ascii_is_source() {
    expect(ascii, "src/map/mod.rs", "// caf\u{e9}\nlet a = '\u{201c}';\nlet b;", 2);
}

#[test]
fn machinery_is_found_outside_its_rooms_and_outside_tests() {
    for name in [
        "std::thread::spawn(f)",
        "use std::{\n    thread,\n};",
        "Mutex<u8>",
        "a: AtomicU64",
        "Instant::now()",
    ] {
        expect(machinery, "src/map/mod.rs", name, 1);
        expect(machinery, "src/sim/mod.rs", name, 1);
        expect(machinery, "src/runtime/ring.rs", name, 0);
        expect(machinery, "src/device.rs", name, 0);
        expect(machinery, "src/frontend/nbd/server/stream.rs", name, 0);
        expect(machinery, "src/frontend/nbd/reply.rs", name, 1);
        expect(machinery, "src/frontend/fuse/server/tasks.rs", name, 0);
        expect(machinery, "src/frontend/fuse/perform.rs", name, 1);
        expect(machinery, "src/frontend/ublk/server/queue.rs", name, 0);
        expect(machinery, "src/frontend/ublk/request.rs", name, 1);
        expect(machinery, "tools/src/main.rs", name, 0);
        expect(machinery, "src/map/mod.rs", &format!("#[cfg(test)]\nmod tests {{\n{name};\n}}"), 0);
        expect(machinery, "src/map/tests.rs", name, 0);
    }
    for name in ["RwLock", "Condvar", "SystemTime", "parking_lot::f()", "thread_local!"] {
        expect(machinery, "src/map/mod.rs", name, 1);
    }
    expect(machinery, "src/map/mod.rs", "// a Mutex\nAtomic; Atomically; \"Mutex\"; Instantly", 0);
}

#[test]
fn nothing_but_the_front_page_knows_the_simulator() {
    expect(simulator, "src/map/mod.rs", "#[cfg(test)]\nuse crate::sim::World;", 1);
    expect(simulator, "src/lib.rs", "use crate::sim::World;", 0);
    expect(simulator, "src/sim/world.rs", "use crate::sim::World;", 0);
    expect(simulator, "tests/map.rs", "use paritas::sim::World;", 0);
}

#[test]
fn an_arrow_that_no_row_lists_is_found_however_it_is_written() {
    let map = "src/map/mod.rs";
    expect(arrows, map, "use crate::types::Lba;\nuse crate::map::tree;\nuse crate::format::page;", 0);
    expect(arrows, map, "use crate::volume::Volume;", 1);
    expect(arrows, map, "use crate::{\n    log::{a, types},\n    types::{commit, Lba},\n    pool,\n};", 2);
    expect(arrows, map, "fn f() -> crate::pool::Pool {}", 1);
    expect(arrows, map, "use super::pool;\nuse super::types::Lba;", 1);
    expect(arrows, "src/map/tree.rs", "use super::cache;\nuse super::super::log;", 1);
    expect(arrows, map, "use crate::Error;", 1);
    expect(arrows, map, "// crate::log\n/* crate::log /* */ crate::log */\nlet s = r#\"crate::log\"#;", 0);
    expect(arrows, map, "#[cfg(test)]\nmod tests {\n    use crate::log;\n}\nuse crate::log;", 1);
    expect(arrows, map, "#[cfg(test)]\nfn f(_: [u8; 4]) {\n    crate::log::f()\n}", 0);
    expect(arrows, "src/cache.rs", "", 1);
    expect(arrows, "src/sim/mod.rs", "use crate::volume::Volume;", 0);
    expect(arrows, "src/sim/mod.rs", "use crate::elsewhere::Volume;", 1);
    expect(arrows, "src/lib.rs", "use crate::commit::create;", 0);
}

#[test]
fn every_row_names_rows_and_the_order_has_no_circle_above_the_leaves() {
    let at = |name: &str| ARROWS.iter().position(|(module, _)| *module == name);
    for (row, (module, allowed)) in ARROWS.iter().enumerate().filter(|(_, (_, allowed))| *allowed != "*") {
        for other in allowed.split(' ') {
            let used = at(other).unwrap_or_else(|| panic!("{module} may use {other}, which has no row"));
            assert!(used < row.max(3), "{module} may use {other}, which stands below it");
        }
    }
}

#[test]
fn literals_and_comments_are_told_from_code() {
    let same = ["let a: &'static str = b;", "let c = '{';", "r = br + r#type;", "a / b * c"];
    let code = ["let a: &'static str = b;", "let c = ' ';", "r = br + r#type;", "a / b * c"];
    for (text, code) in same.iter().zip(code) {
        assert_eq!(code_of(text), code);
    }
    assert_eq!(code_of("f(\"a\\\"b // \", 'x', '\\'', b\"y\") // z\ng"), "f(\"\", ' ', ' ', b\"\") \ng");
    assert_eq!(code_of("r#\"a\"b\nc\"# + /* \n\" */ 1"), "\"\"\n + \n 1");
}

#[test]
fn a_dependency_without_a_reason_is_found_in_every_notation() {
    let count = |manifest: &str| reasons("Cargo.toml", manifest).len();
    assert_eq!(count("[dependencies]\n# Why.\na = \"1\"\nb = \"1\"\n\n# Why.\n\nc = \"1\""), 2);
    assert_eq!(count("[dev-dependencies]\na = \"1\"\n[package]\nname = \"x\""), 1);
    assert_eq!(count("[target.'cfg(unix)'.dependencies]\na.workspace = true"), 1);
    assert_eq!(count("[dependencies.a]\nversion = \"1\"\n# Why.\n[dependencies.b]\nversion = \"1\""), 1);
    assert_eq!(
        count("[dependencies]\n# Why.\na = { version = \"1\", features = [\n  \"x=y\",\n] }\nb = \"1\""),
        1
    );
}
