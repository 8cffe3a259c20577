"""What tools/peers measures, inside of its namespaces: see there."""

import json, os, re, signal, statistics, subprocess, sys, time

SCRATCH, PARITAS = os.environ["SCRATCH"], os.environ["PARITAS"]
MEMORY = f"{SCRATCH}/memory"
SECONDS, ROUNDS = int(os.environ["SECONDS_EACH"]), int(os.environ["ROUNDS"])
ONLY = os.environ["ONLY"]
SCHEME, MEMBERS, MEMBER, SIZE = "8+2", 10, 512, 1024  # of MiB

# Name, what fio does, its depth, whether figures are of bytes. In order first: what was written at random lies so.
PATTERNS = [
    ("sequential read, 1 MiB at 8", "--rw=read --bs=1m", 8, True),
    ("sequential write, 1 MiB at 8", "--rw=write --bs=1m", 8, True),
    ("random read, 4 KiB at 1", "--rw=randread --bs=4k", 1, False),
    ("random read, 4 KiB at 32", "--rw=randread --bs=4k", 32, False),
    ("random write, 4 KiB at 1", "--rw=randwrite --bs=4k", 1, False),
    ("random write, 4 KiB at 32", "--rw=randwrite --bs=4k", 32, False),
    ("flushed write, 4 KiB at 1", "--rw=randwrite --bs=4k --fsync=1", 1, False),
    ("sequential read after those", "--rw=read --bs=1m", 8, True),
]

COMPARED = f"""\
paritas: {SCHEME} on {MEMBERS} files of {MEMBER} MiB. Every block is checksummed, and verified when it is read; a write is
answered from the write buffer, and reaches the members, with parity, meanwhile. {{nbdkit}} and {{qemu}}: one
plain file of {SIZE} MiB, through the page cache, with neither redundancy nor checksums. All files lie in memory (tmpfs).
There a flush of a file is nothing at all; one of paritas writes a row to all members, with parity, and waits for it.
Every file, member and volume was written full before. Every server has the same client, on the same processors: fio,
by one connection over a unix socket. The attached device (FUSE and loop, direct I/O) is compared with the engine alone,
which is libparitas in fio's own process. CPU is the server's for one operation, without the kernel's own threads."""


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True).stdout


def fail(text):
    sys.exit(f"tools/peers: {text}")


def ticks():
    """Processor time of the machine so far, without idleness and waiting, in seconds."""
    fields = [int(field) for field in open("/proc/stat").readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def processor_time(pid):
    """Of all threads of a process so far, in seconds."""
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


pauses = []


def pause():
    """Waits, for a limited time, until nobody else uses more than a fifth of one processor; notes what it saw."""
    for _ in range(8):
        before, since = ticks(), time.monotonic()
        time.sleep(0.25)
        busy = (ticks() - before) / (time.monotonic() - since)
        if busy < 0.2:
            break
    pauses.append(busy)


class Served:
    """A server of the Network Block Device protocol."""

    def __init__(self, name, *command):
        self.name, self.socket = name, f"{SCRATCH}/{name}.socket"
        command = [part.replace("SOCKET", self.socket) for part in command]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=open(f"{SCRATCH}/{name}.said", "w"),
                                        stderr=subprocess.STDOUT)
        self.pid = self.process.pid
        self.where = ["--ioengine=nbd", f"--uri=nbd+unix:///?socket={self.socket}"]
        for _ in range(200):
            if os.path.exists(self.socket):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        fail(f"{name} does not serve: {open(f'{SCRATCH}/{name}.said').read()}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(60) != 0 and self.name == "paritas":
            fail(f"paritas ended with {self.process.returncode}")


class Attached:
    """A volume as a block device."""

    name = "attached"

    def __init__(self, array):
        self.device = run(PARITAS, "attach", f"{array}:v").split()[-1]
        open(f"{SCRATCH}/device", "w").write(self.device)
        self.pid = int(run("pgrep", "-f", "paritas __keep").split()[0])
        self.where = ["--ioengine=libaio", "--direct=1", f"--filename={self.device}"]

    def stop(self):
        run(PARITAS, "detach", self.device)
        os.remove(f"{SCRATCH}/device")


class Engine:
    """The engine in fio's own process."""

    name, pid = "engine", None

    def __init__(self, array):
        self.where = [f"--ioengine=external:{os.environ['ENGINE']}/engine.so", f"--array={array}", "--volume=v"]

    def stop(self):
        pass


def fio(subject, *options):
    said = f"{SCRATCH}/fio.said"
    command = ["fio", "--name=job", f"--size={SIZE}m", "--lat_percentiles=1", "--clat_percentiles=0", "--thread",
               "--output-format=json", f"--output={said}", *subject.where, *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                          text=True)
    text = open(said).read()
    if done.returncode != 0:
        fail(f"fio on {subject.name} failed: {done.stdout}{text}")
    [job] = json.loads(text[text.index("{"):])["jobs"]
    return job


def measure(subject, pattern):
    name, what, depth, of_bytes = pattern
    pause()
    before = processor_time(subject.pid) if subject.pid else None
    # So that nothing of it is written while the next one is measured.
    settles = ["--end_fsync=1"] if "write" in what else []
    job = fio(subject, *what.split(), f"--iodepth={depth}", "--time_based", f"--runtime={SECONDS}", "--randrepeat=0",
              "--norandommap", *settles)
    side = job["read" if job["read"]["total_ios"] else "write"]
    if side["total_ios"] == 0:
        fail(f"{subject.name}, {name}: fio did nothing")
    cpu = (processor_time(subject.pid) - before) * 1e6 / side["total_ios"] if subject.pid else None
    percentiles = side["lat_ns"]["percentile"]
    return {
        "per_second": side["bw_bytes"] if of_bytes else side["iops"],
        "p50_us": percentiles["50.000000"] / 1000,
        "p99_us": percentiles["99.000000"] / 1000,
        "server_cpu_us": cpu,
    }


def middle(found):
    keys = found[0].keys()
    return {key: None if found[0][key] is None else statistics.median(one[key] for one in found) for key in keys}


def compare(subjects, base):
    """One row for each pattern: the median of each subject, and its ratio to the base."""
    rows = []
    for pattern in PATTERNS:
        found = {subject.name: [] for subject in subjects}
        for _ in range(ROUNDS):
            for subject in subjects:
                found[subject.name].append(measure(subject, pattern))
        figures = {name: middle(each) for name, each in found.items()}
        rounds = {name: [one["per_second"] for one in each] for name, each in found.items()}
        for name, each in figures.items():
            pairs = zip(rounds[name], rounds[base])
            each["ratio"] = statistics.median(own / theirs for own, theirs in pairs)
            each["rounds"] = rounds[name]
        rows.append({"pattern": pattern[0], "unit": "bytes" if pattern[3] else "operations", "base": base, **figures})
        if not os.environ["JSON"]:
            print(text_of(rows[-1], first=len(rows) == 1), flush=True)
    return rows


def text_of(row, first):
    names = [name for name in row if isinstance(row[name], dict)]
    lines = []
    if first:
        head = f"{'a second':>9} {'/' + row['base']:>7} {'p50/p99 us':>13} {'CPU us':>6}"
        lines.append(f"{'':28}" + "".join(f" | {name:<38}" for name in names))
        lines.append(f"{'':28}" + f" | {head}" * len(names))
    line = f"{row['pattern']:28}"
    for name in names:
        it = row[name]
        speed = f"{it['per_second'] / 1e6:,.0f} MB" if row["unit"] == "bytes" else f"{it['per_second']:,.0f}"
        cpu = "" if it["server_cpu_us"] is None else f"{it['server_cpu_us']:,.0f}"
        times = f"{it['p50_us']:,.0f}/{it['p99_us']:,.0f}"
        line += f" | {speed:>9} {it['ratio']:>7.2f} {times:>13} {cpu:>6}"
    return "\n".join(lines + [line])


def made(name):
    array = f"{MEMORY}/{name}"
    os.mkdir(array)
    members = [f"{array}/m{i}" for i in range(MEMBERS)]
    for member in members:
        # The log gets everywhere in time; memory that the machine has yet to find and clear would be measured until then.
        with open(member, "wb") as file:
            for _ in range(MEMBER):
                file.write(bytes(1 << 20))
    run(PARITAS, "mkfs", "--scheme", SCHEME, *members)
    run(PARITAS, "volume", "create", f"{array}:v", "--size", f"{SIZE}M")
    return array


def filled(subjects):
    """Writes all of every subject once, so that nothing is read from a hole, and nothing is written into one."""
    for subject in subjects:
        fio(subject, "--rw=write", "--bs=1m", "--iodepth=8", "--end_fsync=1")
    return subjects


def main():
    array, rows = made("array"), {}
    versions = {"nbdkit": "nbdkit", "qemu": "qemu-nbd"}
    if ONLY != "attach":
        versions["nbdkit"] = "nbdkit " + re.search(r"\d[\d.]+", run("nbdkit", "--version")).group()
        versions["qemu"] = "qemu-nbd " + re.search(r"\d[\d.]+", run("qemu-nbd", "--version")).group()
        for name in "nbdkit", "qemu-nbd":
            os.truncate(os.open(f"{MEMORY}/{name}", os.O_CREAT | os.O_WRONLY), SIZE << 20)
        subjects = filled([
            Served("nbdkit", "nbdkit", "--foreground", "--unix", "SOCKET", "file", f"{MEMORY}/nbdkit"),
            Served("qemu-nbd", "qemu-nbd", "--persistent", "--format=raw", "--socket=SOCKET", f"{MEMORY}/qemu-nbd"),
            Served("paritas", PARITAS, "serve", array, "--listen", "unix:SOCKET"),
        ])
        rows["nbd"] = compare(subjects, "nbdkit")
        for subject in subjects:
            subject.stop()
        for name in "nbdkit", "qemu-nbd":
            os.remove(f"{MEMORY}/{name}")
    if ONLY != "nbd":
        if rows and not os.environ["JSON"]:
            print()
        subjects = filled([Engine(made("bare")), Attached(array)])
        rows["attach"] = compare(subjects, "engine")
        for subject in subjects:
            subject.stop()
    compared = COMPARED.format(**versions)
    busy = {"processors": os.cpu_count(), "busy_with_others": statistics.mean(pauses)}
    if os.environ["JSON"]:
        document = {"seconds": SECONDS, "rounds": ROUNDS, "compared": compared.replace("\n", " "), **busy, **rows}
        print(json.dumps(document, indent=2))
    else:
        print(f"\n{compared}\nMedians of rounds ({ROUNDS}) of {SECONDS} s for each, one after the other in every round; "
              f"ratios are those within a round.\nIn the pauses {busy['busy_with_others']:.1f} of "
              f"{busy['processors']} processors were busy with something else.")


main()
