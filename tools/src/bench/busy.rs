//! How busy the machine is with something else: figures taken meanwhile are worth less.

use std::time::Instant;

/// Processor time of the machine and of this process, in ticks of the kernel's accounts.
pub(super) struct Busy {
    since: Instant,
    machine: u64,
    own: u64,
}

/// Ticks per second that Linux shows to programs.
const TICKS: f64 = 100.0;

impl Busy {
    pub(super) fn now() -> Busy {
        let machine = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let own = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Busy { since: Instant::now(), machine: machine_ticks(&machine), own: own_ticks(&own) }
    }

    /// Processors that were busy with something else since then, on average.
    #[allow(clippy::cast_precision_loss)] // A figure for people.
    pub(super) fn others(&self) -> f64 {
        let now = Busy::now();
        let machine = now.machine.saturating_sub(self.machine);
        let others = machine.saturating_sub(now.own.saturating_sub(self.own));
        others as f64 / TICKS / now.since.duration_since(self.since).as_secs_f64().max(0.01)
    }
}

/// All ticks of the first line but those of idleness and of waiting.
fn machine_ticks(stat: &str) -> u64 {
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks = fields.map(|field| field.parse::<u64>().unwrap_or(0));
    // User, nice, system, idle, iowait, irq, softirq, steal; what guests take is in user already.
    ticks.take(8).enumerate().filter(|(at, _)| ![3, 4].contains(at)).map(|(_, ticks)| ticks).sum()
}

/// User and system ticks: the 14th and 15th field, counted behind the name in parentheses.
fn own_ticks(stat: &str) -> u64 {
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_accounts_are_read_in_the_right_places() {
        assert_eq!(machine_ticks("cpu  1 2 4 1000 1000 8 16 32 1000 1000\ncpu0 9 9 9\n"), 63);
        assert_eq!(own_ticks("7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 20 30 40 50"), 50);
        assert_eq!((machine_ticks(""), own_ticks("")), (0, 0));
    }

    #[test]
    fn what_this_process_does_is_not_others() {
        let busy = Busy::now();
        let begun = Instant::now();
        while begun.elapsed().as_millis() < 50 {
            std::hint::spin_loop();
        }
        assert!(busy.own <= Busy::now().own && busy.others().is_finite());
    }
}
