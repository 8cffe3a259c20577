//! `paritas inject`

use crate::caller::Caller;
use crate::cli::{Inject, InjectKind};
use crate::outcome::{Failure, Report};
use crate::status::{describe_injected, injected, look};
use paritas::volume::inject::{self, Fault, FaultKind, MILLION, Rotten};
use paritas::volume::{MemberHealth, Status};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// Places that are told to a person at most.
const SHOWN_MAX: usize = 16;

pub(crate) fn run(args: &Inject, caller: &Caller) -> Result<Report, Failure> {
    match (&args.remove, &args.member, args.kind) {
        (Some(member), _, _) => remove(args, member, caller),
        (None, Some(member), Some(InjectKind::Rot)) => rot(args, member, caller),
        (None, Some(member), Some(kind)) => keep(args, member, kind, caller),
        _ => list(args, caller),
    }
}

fn list(args: &Inject, caller: &Caller) -> Result<Report, Failure> {
    let status = look(&args.array, caller)?;
    let lines: Vec<String> = status.injected.iter().map(describe_injected).collect();
    let faults: Vec<_> = status.injected.iter().map(injected).collect();
    let text = if lines.is_empty() { "no faults are kept".into() } else { lines.join("\n") };
    Ok(Report::done(json!({ "injected": faults }), text))
}

fn remove(args: &Inject, member: &Path, caller: &Caller) -> Result<Report, Failure> {
    let one = (member != Path::new("all")).then_some(member);
    let forgotten = inject::forget(&args.array.array, args.array.choice.name.as_deref(), one)?;
    let lines: Vec<String> = forgotten
        .iter()
        .map(|(slot, path)| format!("nothing strikes member {slot} ({}) any more", path.display()))
        .collect();
    if let Caller::Elsewhere(remote) = caller {
        let array = remote.array();
        array.clear_injected(one.map(|member| array.member(member)).transpose()?)?;
    }
    let members: Vec<Value> =
        forgotten.iter().map(|(slot, path)| json!({ "slot": slot, "path": path })).collect();
    let text = if lines.is_empty() { "no faults were kept".into() } else { lines.join("\n") };
    Ok(Report::done(json!({ "removed": members }), text))
}

fn keep(args: &Inject, member: &Path, kind: InjectKind, caller: &Caller) -> Result<Report, Failure> {
    if args.seed.is_some() {
        return Err(Failure::usage("only rot has a seed: what strikes by chance does so anew each time"));
    }
    let kind = FaultKind::named(name(kind), args.delay).map_err(Failure::usage)?;
    let per_million = args.chance.unwrap_or(MILLION);
    let fault = Fault { kind, range: args.range, per_million, count: args.count };
    let status = look(&args.array, caller)?;
    if matches!(kind, FaultKind::LostWrite | FaultKind::MisdirectedWrite) {
        let what = format!("let {} strike member {}", kind.name(), member.display());
        confirm(args, &what, &status, caller)?;
    }
    let kept = inject::keep(&args.array.array, args.array.choice.name.as_deref(), member, fault)?;
    let stress = Stress::of(&status, kept.slot);
    stress.warn(caller);
    let mut document = json!({ "fault": injected(&kept) });
    stress.add(&mut document);
    let mut text = format!("{}; it strikes whoever opens the array from now on", describe_injected(&kept));
    if let Caller::Elsewhere(remote) = caller {
        let struck = remote.array().inject(kept.slot, fault).map_err(Failure::from);
        struck
            .map_err(|failure| failure.context("kept, but the array that is being served is not struck"))?;
        text += ", and the array that is being served at once";
    }
    Ok(Report::done(document, text))
}

fn rot(args: &Inject, member: &Path, caller: &Caller) -> Result<Report, Failure> {
    if args.chance.is_some() || args.delay.is_some() {
        return Err(Failure::usage("rot strikes at once: it has neither a chance nor a delay"));
    }
    let status = look(&args.array, caller)?;
    confirm(args, &format!("let rot flip bits of member {} at once", member.display()), &status, caller)?;
    let name = args.array.choice.name.as_deref();
    let seed = args.seed.unwrap_or_else(random);
    let Rotten { slot, path, blocks } =
        inject::rot(&args.array.array, name, member, args.range, args.count, seed)?;
    let stress = Stress::of(&status, slot);
    stress.warn(caller);
    let shown: Vec<String> = blocks.iter().take(SHOWN_MAX).map(u64::to_string).collect();
    let more = if blocks.len() > SHOWN_MAX { ", ..." } else { "" };
    let text = format!(
        "member {slot} ({}): a bit is wrong in {} blocks, at bytes {}{more} (seed {seed}); a scrub heals them",
        path.display(),
        blocks.len(),
        shown.join(", ")
    );
    let mut document = json!({ "slot": slot, "path": path, "rotten": blocks, "seed": seed });
    stress.add(&mut document);
    Ok(Report::done(document, text))
}

/// Asks before what cannot be taken back: other faults end when they are removed.
fn confirm(args: &Inject, what: &str, status: &Status, caller: &Caller) -> Result<(), Failure> {
    caller.confirm(args.consent, || {
        Some(format!("{what} of array '{}'? What it destroys, redundancy alone can bring back", status.name))
    })
}

/// Any number: another one each time.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

fn name(kind: InjectKind) -> &'static str {
    match kind {
        InjectKind::ReadError => "read-error",
        InjectKind::WriteError => "write-error",
        InjectKind::FlushError => "flush-error",
        InjectKind::Slow => "slow",
        InjectKind::Hang => "hang",
        InjectKind::LostWrite => "lost-write",
        InjectKind::MisdirectedWrite => "misdirected-write",
        InjectKind::BitFlip => "bit-flip",
        InjectKind::Vanish => "vanish",
        InjectKind::Rot => "rot",
    }
}

/// How much is struck at once, beside how much may be.
struct Stress {
    /// Members in use with faults.
    struck: usize,
    /// How many more members than those that are out of use may be lost.
    tolerates: i16,
}

impl Stress {
    /// With the faults that were there, and one more.
    fn of(before: &Status, slot: u8) -> Stress {
        let in_use = |slot: &u8| {
            before.members.iter().any(|member| member.slot == *slot && member.health == MemberHealth::Active)
        };
        let slots = before.injected.iter().map(|fault| fault.slot).chain([slot]);
        let struck = slots.filter(in_use).collect::<BTreeSet<u8>>().len();
        let tolerates = before.volumes.iter().map(|volume| volume.tolerance).min().unwrap_or(i16::MAX);
        Stress { struck, tolerates }
    }

    fn is_too_much(&self) -> bool {
        i16::try_from(self.struck).is_ok_and(|struck| struck > self.tolerates)
    }

    fn warn(&self, caller: &Caller) {
        if self.is_too_much() {
            let Stress { struck, tolerates } = self;
            let tolerates = tolerates.max(&0);
            caller.say(&format!(
                "with this, {struck} members in use are struck, and the array tolerates {tolerates}: data may be \
                 out of reach, or lost"
            ));
        }
    }

    fn add(&self, document: &mut Value) {
        document["struck"] = self.struck.into();
        document["beyond_tolerance"] = self.is_too_much().into();
    }
}
