//! The figures of a measurement, for programs and for people.

use super::load::Measured;
use crate::names::show_size;
use serde::Serialize;

/// Everything that was measured.
#[derive(Serialize)]
pub(super) struct Figures {
    pub(super) scheme: String,
    pub(super) members: usize,
    pub(super) member_size: u64,
    pub(super) place: String,
    /// Whether the page cache was bypassed by plain I/O.
    pub(super) direct: bool,
    pub(super) seconds: f64,
    /// Processors that were busy with something else meanwhile, interrupts included.
    pub(super) others_busy: f64,
    pub(super) rows: Vec<Row>,
    /// Rows that could not be measured, and why.
    pub(super) left_out: Vec<String>,
}

/// One job on both sides.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) operation_size: usize,
    pub(super) depth: usize,
    pub(super) engine: Measured,
    pub(super) plain: Measured,
    /// Of the engine's speed to the plain one; for sequential writes that of the bytes on members, which the scheme
    /// makes more; for a rebuild that of all bytes that were read and written.
    pub(super) ratio: f64,
    /// Bytes that reached members for each byte written.
    pub(super) written_per_byte: Option<f64>,
    /// Whether the job ended because the array was full.
    pub(super) ran_full: bool,
}

impl Row {
    fn speed(&self, measured: &Measured) -> String {
        match self.operation_size >= 1 << 20 {
            true => format!("{:.0} MB/s", measured.bytes_per_second / 1e6),
            false => format!("{:.1} k/s", measured.operations_per_second / 1e3),
        }
    }

    fn line(&self) -> [String; 9] {
        let what = format!("{}, {} at {}", self.name, show_size(self.operation_size as u64), self.depth);
        [
            if self.ran_full { format!("{what}, until full") } else { what },
            self.speed(&self.engine),
            self.speed(&self.plain),
            format!("{:.2}", self.ratio),
            self.engine.p50_us.map_or(String::new(), micros),
            self.engine.p99_us.map_or(String::new(), micros),
            micros(self.engine.cpu_us_per_operation),
            micros(self.plain.cpu_us_per_operation),
            self.written_per_byte.map_or(String::new(), |bytes| format!("{bytes:.2}")),
        ]
    }
}

fn micros(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

const HEAD: [&str; 9] =
    ["", "paritas", "plain", "ratio", "p50 us", "p99 us", "CPU us/op", "plain", "written"];

impl Figures {
    pub(super) fn text(&self) -> String {
        let size = show_size(self.member_size);
        let mut lines = vec![format!(
            "{} on {} members of {size}, {}: paritas beside plain I/O on the same files ({}, io_uring)",
            self.scheme,
            self.members,
            self.place,
            if self.direct { "direct" } else { "through the page cache" },
        )];
        let cells: Vec<[String; 9]> =
            std::iter::once(HEAD.map(String::from)).chain(self.rows.iter().map(Row::line)).collect();
        let width = |column: usize| cells.iter().map(|line| line[column].len()).max().unwrap_or(0);
        for line in &cells {
            let first = format!("{:<w$}", line[0], w = width(0));
            let rest = (1..9).map(|column| format!("{:>w$}", line[column], w = width(column)));
            lines.push(std::iter::once(first).chain(rest).collect::<Vec<_>>().join("  "));
        }
        lines.extend(self.left_out.iter().cloned());
        lines.push(format!(
            "{:.0} s; others kept {:.1} processors busy meanwhile; CPU is that of this process, kernel included;\n\
             written is bytes on members per byte of the user",
            self.seconds, self.others_busy
        ));
        lines.join("\n")
    }
}
