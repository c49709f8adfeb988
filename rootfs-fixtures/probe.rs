//! A static program without dependencies that tells what a process inside a
//! container sees. Facts are printed as `key=value` lines; attempts print `ok`
//! or the name of the errno, and exit with 0 either way.
//!
//! It has C's `main`: the start-up code of Rust's standard library would ignore
//! SIGPIPE, catch SIGSEGV and open descriptors 0-2, which are facts to be told.
#![no_main]

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::fs;
use std::io::{self, Error, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::exit;
use std::ptr::null;
use std::thread::sleep;
use std::time::{Duration, Instant};

#[repr(C)]
#[derive(Default)]
struct WinSize {
    rows: u16,
    cols: u16,
    x: u16,
    y: u16,
}

#[repr(C)]
struct PollFd {
    fd: c_int,
    events: i16,
    revents: i16,
}

unsafe extern "C" {
    fn fork() -> c_int;
    fn _exit(code: c_int) -> !;
    fn getpgid(pid: c_int) -> c_int;
    fn getppid() -> c_int;
    fn getrlimit(which: c_int, to: *mut [u64; 2]) -> c_int;
    fn getsid(pid: c_int) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn isatty(fd: c_int) -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn lgetxattr(p: *const c_char, name: *const c_char, to: *mut c_void, size: usize) -> isize;
    fn lsetxattr(p: *const c_char, name: *const c_char, value: *const c_void, size: usize, flags: c_int) -> c_int;
    fn mknod(path: *const c_char, mode: c_uint, device: u64) -> c_int;
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    fn pause() -> c_int;
    fn ppoll(fds: *mut PollFd, n: c_ulong, timeout: *const c_void, mask: *const u64) -> c_int;
    fn signal(signal: c_int, handler: usize) -> usize;
    fn sigprocmask(how: c_int, set: *const [u64; 16], old: *mut [u64; 16]) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn tcgetpgrp(fd: c_int) -> c_int;
    fn umask(mask: c_uint) -> c_uint;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn write(fd: c_int, from: *const c_void, size: usize) -> isize;
}

const USAGE: &str = "usage: probe COMMAND
  all | fds | caps | mounts | dev | tty       what there is
  open PATH r|w|rw    mknod PATH c|b MAJ MIN  mount
  setxattr PATH NAME VALUE    getxattr PATH NAME    setcap PATH
  syscall NUMBER [ARG..]                      a raw call with numbers
  syscall32 NUMBER [ARG [ARG]]                the same as 32-bit x86 makes it
  exit N    kill-self SIG    sleep SECONDS    ignore-term    trap    winch
  cat-hash    spew BYTES    spew-hash BYTES   (BYTES may end in k, m or g)
  alloc MIB [SECONDS]    forkbomb N    zombies
  serve PORT      by TCP and UDP: tells everybody his own address
  ask tcp|udp ADDRESS PORT        what such a server says
  drain PORT      reads one connection to its end: bytes and microseconds
  pour ADDRESS PORT MIB           sends so much";

#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let args: Vec<String> = (1..argc as usize)
        .map(|i| unsafe { CStr::from_ptr(*argv.add(i)) })
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let code = run(&args);
    let _ = io::stdout().flush();
    code
}

fn run(args: &[&str]) -> c_int {
    match *args {
        ["all"] => all(),
        ["fds"] => fds(""),
        ["caps"] => status_lines(&["Cap", "NoNewPrivs"]),
        ["mounts"] => print!("{}", text("/proc/self/mountinfo")),
        ["dev"] => dev("/dev"),
        ["tty"] => tty(),
        ["open", path, mode] => open(path, mode),
        ["mknod", path, kind, major, minor] => make_node(path, kind, number(major), number(minor)),
        ["mount"] => {
            attempt(unsafe { mount(c"tmpfs".as_ptr(), c"/mnt".as_ptr(), c"tmpfs".as_ptr(), 0, null()) } as i64)
        }
        ["setxattr", path, name, value] => set_xattr(path, name, value.as_bytes()),
        ["getxattr", path, name] => get_xattr(path, name),
        ["setcap", path] => set_xattr(path, "security.capability", &bind_service()),
        ["syscall", nr, ref rest @ ..] => raw_call(nr, rest),
        ["syscall32", nr, ref rest @ ..] => raw_call_32(nr, rest),
        ["exit", code] => return number(code) as c_int,
        ["kill-self", name] => {
            unsafe { kill(std::process::id() as c_int, signal_number(name)) };
            println!("survived");
        }
        ["sleep", seconds] => sleep(Duration::from_secs_f64(seconds.parse().unwrap_or(0.0))),
        ["ignore-term"] => {
            unsafe { signal(TERM, IGNORE) };
            say("ready");
            wait_forever();
        }
        ["trap"] => trap(),
        ["winch"] => winch(),
        ["cat-hash"] => cat_hash(),
        ["spew", bytes] => return spew(size(bytes), true),
        ["spew-hash", bytes] => return spew(size(bytes), false),
        ["alloc", mib] => alloc(number(mib), 0),
        ["alloc", mib, seconds] => alloc(number(mib), number(seconds)),
        ["forkbomb", n] => fork_bomb(number(n)),
        ["zombies"] => zombies(),
        ["serve", port] => serve(number(port) as u16),
        ["ask", protocol, address, port] => return ask(protocol, address, number(port) as u16),
        ["drain", port] => drain(number(port) as u16),
        ["pour", address, port, mib] => pour(address, number(port) as u16, number(mib)),
        _ => {
            eprintln!("{USAGE}");
            return 64;
        }
    }
    0
}

// ---- small helpers

const TERM: c_int = 15;
const WINCH: c_int = 28;
const IGNORE: usize = 1;

fn usage(wrong: &str) -> ! {
    eprintln!("probe: bad argument {wrong:?}\n{USAGE}");
    exit(64)
}

fn number(s: &str) -> u64 {
    let parsed = match s.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => s.parse().ok().or_else(|| s.parse::<i64>().ok().map(|n| n as u64)),
    };
    parsed.unwrap_or_else(|| usage(s))
}

fn size(s: &str) -> u64 {
    let (digits, shift) = match s.as_bytes().last() {
        Some(b'k') => (&s[..s.len() - 1], 10),
        Some(b'm') => (&s[..s.len() - 1], 20),
        Some(b'g') => (&s[..s.len() - 1], 30),
        _ => (s, 0),
    };
    number(digits) << shift
}

fn c(s: &str) -> CString {
    CString::new(s).unwrap_or_else(|_| usage(s))
}

fn text(path: &str) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn link(path: &str) -> String {
    match fs::read_link(path) {
        Ok(target) => target.to_string_lossy().into_owned(),
        Err(e) => errno_name(&e),
    }
}

fn say(line: &str) {
    println!("{line}");
    let _ = io::stdout().flush();
}

fn wait_forever() -> ! {
    loop {
        unsafe { pause() };
    }
}

#[cfg(target_arch = "x86_64")]
fn raw_call_32(nr: &str, rest: &[&str]) {
    let argument = |i: usize| rest.get(i).map_or(0, |a| number(a));
    let mut result = number(nr);
    // The compiler keeps rbx to itself.
    unsafe {
        std::arch::asm!("xchg {first}, rbx", "int 0x80", "xchg {first}, rbx",
            first = inout(reg) argument(0) => _, inlateout("rax") result, in("rcx") argument(1), in("rdx") 0,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    match result as i32 {
        error @ -4095..0 => println!("{}", errno_name(&Error::from_raw_os_error(-error))),
        n => println!("{n}"),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn raw_call_32(nr: &str, _: &[&str]) {
    usage(nr)
}

fn attempt(result: i64) {
    if result < 0 {
        println!("{}", errno_name(&Error::last_os_error()));
    } else {
        println!("ok");
    }
}

fn errno_name(error: &Error) -> String {
    const FROM_1: &str = "EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN \
        ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE \
        EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK \
        ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP";
    let code = error.raw_os_error().unwrap_or(0);
    let name = match code {
        61 => Some("ENODATA"),
        95 => Some("EOPNOTSUPP"),
        97 => Some("EAFNOSUPPORT"),
        101 => Some("ENETUNREACH"),
        122 => Some("EDQUOT"),
        126 => Some("ENOKEY"),
        1..=40 => FROM_1.split_whitespace().nth(code as usize - 1),
        _ => None,
    };
    name.map_or_else(|| format!("errno-{code}"), str::to_string)
}

fn signal_number(name: &str) -> c_int {
    const FROM_1: &str = "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM \
        STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS";
    let short = name.strip_prefix("SIG").unwrap_or(name);
    let position = FROM_1.split_whitespace().position(|n| n == short);
    position.map_or_else(|| number(name) as c_int, |n| n as c_int + 1)
}

// ---- what there is

fn all() {
    status_lines(&["Uid", "Gid", "Groups"]);
    let mask = unsafe { umask(0) };
    println!("umask={mask:04o}");
    println!("cwd={}", link("/proc/self/cwd"));
    println!("exe={}", link("/proc/self/exe"));
    println!("hostname={}", text("/proc/sys/kernel/hostname").trim_end());
    println!("domainname={}", text("/proc/sys/kernel/domainname").trim_end());
    println!("pid={}", std::process::id());
    unsafe {
        println!("ppid={}", getppid());
        println!("sid={}", getsid(0));
        println!("pgid={}", getpgid(0));
    }
    status_lines(&["Cap", "NoNewPrivs", "Seccomp", "SigBlk", "SigIgn", "SigCgt"]);
    fds("fd.");
    rlimits();
    for entry in entries("/proc/self/ns") {
        let target = link(&format!("/proc/self/ns/{entry}"));
        let inode = target.split(['[', ']']).nth(1).unwrap_or(&target);
        println!("ns.{entry}={inode}");
    }
    println!("oom_score_adj={}", text("/proc/self/oom_score_adj").trim_end());
    println!("cgroup={}", text("/proc/self/cgroup").trim_end().replace('\n', ","));
    for (name, value) in std::env::vars_os() {
        let mut line = b"env.".to_vec();
        line.extend_from_slice(name.as_bytes());
        line.push(b'=');
        line.extend_from_slice(value.as_bytes());
        line.push(b'\n');
        let _ = io::stdout().write_all(&line);
    }
}

/// Lines of /proc/self/status whose names begin so; of Uid and Gid the real,
/// effective, saved and file-system id.
fn status_lines(prefixes: &[&str]) {
    for line in text("/proc/self/status").lines() {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if prefixes.iter().any(|p| name.starts_with(p)) {
            let words: Vec<&str> = value.split_whitespace().collect();
            match name {
                "Uid" | "Gid" => {
                    let key = name.to_lowercase();
                    println!("{key}={}\ne{key}={}\ns{key}={}", words[0], words[1], words[2]);
                }
                "Groups" => println!("groups={}", words.join(",")),
                _ => println!("{name}={}", words.join(" ")),
            }
        }
    }
}

fn entries(dir: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn fds(prefix: &str) {
    let mut open: Vec<(u32, String)> = entries("/proc/self/fd")
        .iter()
        .filter_map(|n| Some((n.parse().ok()?, fs::read_link(format!("/proc/self/fd/{n}")).ok()?)))
        .map(|(n, target)| (n, target.to_string_lossy().into_owned()))
        .collect();
    // The descriptor the list was read through is closed by now, so has no link.
    open.sort();
    for (n, target) in open {
        println!("{prefix}{n}={target}");
    }
}

fn rlimits() {
    const NAMES: &str = "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING \
        MSGQUEUE NICE RTPRIO RTTIME";
    let show = |n: u64| if n == u64::MAX { "unlimited".to_string() } else { n.to_string() };
    for (which, name) in NAMES.split_whitespace().enumerate() {
        let mut limit = [0; 2];
        unsafe { getrlimit(which as c_int, &mut limit) };
        println!("rlimit.{name}={}:{}", show(limit[0]), show(limit[1]));
    }
}

/// `name type major:minor mode [-> target]` for everything under /dev.
fn dev(dir: &str) {
    for entry in entries(dir) {
        let path = format!("{dir}/{entry}");
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let kind = match meta.file_type() {
            t if t.is_char_device() => "c",
            t if t.is_block_device() => "b",
            t if t.is_dir() => "d",
            t if t.is_symlink() => "l",
            t if t.is_fifo() => "p",
            t if t.is_socket() => "s",
            _ => "f",
        };
        let (major, minor) = (meta.rdev() >> 8 & 0xfff, meta.rdev() & 0xff | meta.rdev() >> 12 & !0xff);
        let arrow = if kind == "l" { format!(" -> {}", link(&path)) } else { String::new() };
        let name = path.trim_start_matches("/dev/");
        println!("{name} {kind} {major}:{minor} {:04o}{arrow}", meta.mode() & 0o7777);
        if kind == "d" {
            dev(&path);
        }
    }
}

fn window() -> String {
    let mut size = WinSize::default();
    let asked = unsafe { ioctl(0, 0x5413, &mut size as *mut WinSize) };
    if asked < 0 { "none".to_string() } else { format!("{}x{}", size.rows, size.cols) }
}

fn tty() {
    for (fd, name) in ["stdin", "stdout", "stderr"].iter().enumerate() {
        println!("{name}={}", if unsafe { isatty(fd as c_int) } == 1 { "yes" } else { "no" });
    }
    println!("name={}", link("/proc/self/fd/0"));
    println!("size={}", window());
    let controlling = fs::OpenOptions::new().read(true).write(true).open("/dev/tty");
    println!("controlling={}", controlling.map_or_else(|e| errno_name(&e), |_| "yes".into()));
    unsafe {
        println!("foreground={}", tcgetpgrp(0));
        println!("pgid={}", getpgid(0));
        println!("sid={}", getsid(0));
    }
}

// ---- attempts

fn open(path: &str, mode: &str) {
    let (read, write) = (mode.contains('r'), mode.contains('w'));
    match fs::OpenOptions::new().read(read).write(write).open(path) {
        Ok(_) => println!("ok"),
        Err(e) => println!("{}", errno_name(&e)),
    }
}

fn make_node(path: &str, kind: &str, major: u64, minor: u64) {
    let kind = if kind == "b" { 0o060000 } else { 0o020000 };
    let device = major << 8 | minor & 0xff | (minor & !0xff) << 12;
    attempt(unsafe { mknod(c(path).as_ptr(), kind | 0o666, device) } as i64);
}

fn set_xattr(path: &str, name: &str, value: &[u8]) {
    attempt(unsafe { lsetxattr(c(path).as_ptr(), c(name).as_ptr(), value.as_ptr().cast(), value.len(), 0) } as i64);
}

fn get_xattr(path: &str, name: &str) {
    let mut value = vec![0u8; 65536];
    let n = unsafe { lgetxattr(c(path).as_ptr(), c(name).as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    if n < 0 {
        return attempt(-1);
    }
    value.truncate(n as usize);
    match String::from_utf8(value) {
        Ok(s) if s.chars().all(|ch| !ch.is_control()) => println!("{s}"),
        other => {
            let bytes = other.map_or_else(|e| e.into_bytes(), String::into_bytes);
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            println!("0x{hex}");
        }
    }
}

/// A version 2 capability xattr: cap_net_bind_service, permitted and effective.
fn bind_service() -> Vec<u8> {
    let words: [u32; 5] = [0x0200_0001, 1 << 10, 0, 0, 0];
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

fn raw_call(nr: &str, rest: &[&str]) {
    let mut a = [0u64; 6];
    for (slot, value) in a.iter_mut().zip(rest) {
        *slot = number(value);
    }
    let nr = number(nr) as c_long;
    match unsafe { syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]) } {
        -1 => attempt(-1),
        n => println!("{n}"),
    }
}

// ---- signals and terminals

extern "C" fn report(signal: c_int) {
    // Only what is safe in a handler: no allocation, no locks.
    let (tens, ones) = (b'0' + (signal / 10) as u8, b'0' + (signal % 10) as u8);
    let line = [b's', b'i', b'g', b'n', b'a', b'l', b' ', tens, ones, b'\n'];
    let short = [b's', b'i', b'g', b'n', b'a', b'l', b' ', ones, b'\n'];
    let text: &[u8] = if signal < 10 { &short } else { &line };
    unsafe {
        write(1, text.as_ptr().cast(), text.len());
        if signal == TERM {
            _exit(40);
        }
    }
}

fn trap() -> ! {
    for n in 1..=64 {
        unsafe { signal(n, report as extern "C" fn(c_int) as usize) };
    }
    say("ready");
    wait_forever()
}

extern "C" fn interrupt(_: c_int) {}

extern "C" fn leave(_: c_int) {
    unsafe { _exit(0) };
}

fn winch() {
    let mut blocked = [0u64; 16];
    blocked[0] = 1 << (WINCH - 1);
    unsafe {
        signal(WINCH, interrupt as extern "C" fn(c_int) as usize);
        signal(TERM, leave as extern "C" fn(c_int) as usize);
        sigprocmask(0, &blocked, null::<[u64; 16]>() as *mut _);
    }
    loop {
        say(&window());
        loop {
            let mut stdin = PollFd { fd: 0, events: 1, revents: 0 };
            let open = [0u64; 16];
            if unsafe { ppoll(&mut stdin, 1, null(), open.as_ptr()) } < 0 {
                break;
            }
            if matches!(io::stdin().read(&mut [0; 64]), Ok(0) | Err(_)) {
                return;
            }
        }
    }
}

// ---- data

struct Hash(u64, u64);

impl Hash {
    fn new() -> Hash {
        Hash(0, 0xcbf2_9ce4_8422_2325)
    }
    fn add(&mut self, bytes: &[u8]) {
        self.0 += bytes.len() as u64;
        for b in bytes {
            self.1 = (self.1 ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    fn print(&self) {
        println!("bytes={}\nhash={:016x}", self.0, self.1);
    }
}

fn cat_hash() {
    let mut hash = Hash::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match io::stdin().read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => hash.add(&buffer[..n]),
            Err(e) => {
                println!("error={}", errno_name(&e));
                break;
            }
        }
    }
    hash.print();
}

fn spew(total: u64, to_stdout: bool) -> c_int {
    let mut hash = Hash::new();
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut left = total;
    let mut block = Vec::with_capacity(1 << 16);
    while left > 0 {
        block.clear();
        while block.len() < 1 << 16 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend_from_slice(&state.to_le_bytes());
        }
        let n = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        left -= n as u64;
        if !to_stdout {
            hash.add(&block[..n]);
        } else if let Err(e) = io::stdout().write_all(&block[..n]) {
            eprintln!("spew: {}", errno_name(&e));
            return 1;
        }
    }
    if !to_stdout {
        hash.print();
    }
    0
}

// ---- resources and processes

fn alloc(mib: u64, seconds: u64) {
    let mut held: Vec<Vec<u8>> = Vec::new();
    for _ in 0..mib {
        let mut chunk = vec![0u8; 1 << 20];
        for page in chunk.chunks_mut(4096) {
            unsafe { std::ptr::write_volatile(&mut page[0], 1) };
        }
        held.push(chunk);
    }
    say(&format!("allocated={}", held.len()));
    sleep(Duration::from_secs(seconds));
}

fn fork_bomb(n: u64) {
    let mut children = Vec::new();
    let mut refused = None;
    while (children.len() as u64) < n {
        match unsafe { fork() } {
            0 => wait_forever(),
            -1 => {
                refused = Some(errno_name(&Error::last_os_error()));
                break;
            }
            pid => children.push(pid),
        }
    }
    for pid in &children {
        unsafe { kill(*pid, 9) };
    }
    for pid in &children {
        unsafe { waitpid(*pid, null::<c_int>() as *mut _, 0) };
    }
    println!("forked={}\nstopped_by={}", children.len(), refused.as_deref().unwrap_or("limit"));
}

/// Leaves three orphans to pid 1 and looks from a second later on, for some more,
/// whether they are still there as zombies.
fn zombies() {
    let parent = unsafe { fork() };
    if parent == 0 {
        for _ in 0..3 {
            if unsafe { fork() } == 0 {
                sleep(Duration::from_millis(200));
                unsafe { _exit(0) };
            }
        }
        unsafe { _exit(0) };
    }
    unsafe { waitpid(parent, null::<c_int>() as *mut _, 0) };
    sleep(Duration::from_secs(1));
    let mut left = zombie_count();
    for _ in 0..30 {
        if left == 0 {
            break;
        }
        sleep(Duration::from_millis(100));
        left = zombie_count();
    }
    println!("orphans=3\nzombies={left}\nreaped={}", if left == 0 { "yes" } else { "no" });
}

/// Those of our own process group: others may be seen, too.
fn zombie_count() -> usize {
    let state_and_group = |pid: &str| {
        let stat = text(&format!("/proc/{pid}/stat"));
        let (_, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        Some((fields.first()?.to_string(), fields.get(2)?.to_string()))
    };
    let own = state_and_group("self").map(|(_, group)| group);
    let all = entries("/proc").into_iter().filter(|name| name.parse::<u32>().is_ok());
    all.filter_map(|pid| state_and_group(&pid))
        .filter(|(state, group)| state == "Z" && Some(group) == own.as_ref())
        .count()
}

// ---- the network

/// All addresses of both families, or of IPv4 where there is no IPv6.
fn everywhere<T>(port: u16, bind: impl Fn(SocketAddr) -> io::Result<T>) -> T {
    let (v6, v4) = (Ipv6Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED);
    match bind(SocketAddr::new(v6.into(), port)).or_else(|_| bind(SocketAddr::new(v4.into(), port))) {
        Ok(bound) => bound,
        Err(e) => {
            eprintln!("probe: port {port}: {e}");
            exit(1)
        }
    }
}

fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        v4 => v4,
    }
}

fn serve(port: u16) {
    let (tcp, udp) = (everywhere(port, TcpListener::bind), everywhere(port, UdpSocket::bind));
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((_, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(plain(from.ip()).to_string().as_bytes(), from);
        }
    });
    say("ready");
    while let Ok((mut client, from)) = tcp.accept() {
        let _ = client.write_all(plain(from.ip()).to_string().as_bytes());
    }
}

fn ask(protocol: &str, address: &str, port: u16) -> c_int {
    let Ok(ip) = address.parse::<IpAddr>() else { usage(address) };
    let (to, patience) = (SocketAddr::new(ip, port), Duration::from_secs(2));
    let answer = || -> io::Result<String> {
        let mut text = String::new();
        if protocol == "udp" {
            let from: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind(SocketAddr::new(from, 0))?;
            socket.set_read_timeout(Some(patience))?;
            socket.connect(to)?;
            socket.send(b"?")?;
            let mut buffer = [0; 512];
            let n = socket.recv(&mut buffer)?;
            text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        } else {
            let mut stream = TcpStream::connect_timeout(&to, patience)?;
            stream.set_read_timeout(Some(patience))?;
            stream.read_to_string(&mut text)?;
        }
        Ok(text)
    };
    match answer() {
        Ok(text) => println!("{text}"),
        Err(e) => {
            println!("{e}");
            return 1;
        }
    }
    0
}

fn drain(port: u16) {
    let listener = everywhere(port, TcpListener::bind);
    say("ready");
    let Ok((mut client, _)) = listener.accept() else { return };
    let (mut buffer, mut sum, started) = (vec![0; 1 << 18], 0, Instant::now());
    while let Ok(n) = client.read(&mut buffer) {
        if n == 0 {
            break;
        }
        sum += n;
    }
    println!("bytes={sum}\nmicroseconds={}", started.elapsed().as_micros());
}

fn pour(address: &str, port: u16, mib: u64) {
    let Ok(ip) = address.parse::<IpAddr>() else { usage(address) };
    let buffer = vec![0x5a; 1 << 18];
    match TcpStream::connect(SocketAddr::new(ip, port)) {
        Ok(mut stream) => {
            let sent = (0..mib * 4).try_for_each(|_| stream.write_all(&buffer));
            println!("{}", if sent.is_ok() { "sent" } else { "broken" });
        }
        Err(e) => println!("{e}"),
    }
}
