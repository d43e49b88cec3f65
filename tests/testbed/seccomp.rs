//! seccomp user notification: chosen system calls of a process wait until the test has decided what becomes of each. The tests'
//! only unsafe code.

#![allow(
    unsafe_code,
    reason = "the standard library knows no seccomp; each block states why it is sound"
)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::{c_long, c_ulong};

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Where the system calls of a thread, and of all processes that it started, are waited for.
pub struct Listener(OwnedFd);

/// A system call that waits for [`Listener::answer`].
pub struct Waiting {
    id: u64,
    /// The thread that called, as `/proc` numbers it.
    pub thread: u32,
    /// The system call's number.
    pub number: c_long,
    /// Its arguments, as they are in registers.
    pub arguments: [u64; 6],
}

impl Listener {
    /// From now on, these system calls of the calling thread and of what it starts wait for this listener; once it is dropped,
    /// they fail with ENOSYS. Needs no privilege. The calling thread should do no more than start a process: whoever listens
    /// has to answer its own calls as well.
    pub fn begin(numbers: &[c_long]) -> io::Result<Self> {
        let mut filter = filter(numbers);
        let program = libc::sock_fprog {
            len: u16::try_from(filter.len()).map_err(io::Error::other)?,
            filter: filter.as_mut_ptr(),
        };
        let (on, off): (c_ulong, c_ulong) = (1, 0);
        // SAFETY: this option takes integers, and changes the calling thread alone.
        let set = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, on, off, off, off) };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `program` and the filter that it points to outlive the call, during which the kernel copies them.
        let descriptor = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
                &raw const program,
            )
        };
        match i32::try_from(descriptor) {
            // SAFETY: the kernel has just opened it for this call; nobody else owns it.
            Ok(descriptor) if descriptor >= 0 => {
                Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
            }
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits for the next call; none when all that could call have ended.
    pub fn next(&self) -> io::Result<Option<Waiting>> {
        loop {
            let mut poll = libc::pollfd {
                fd: self.0.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: `poll` is one valid entry, as the second argument says.
            if unsafe { libc::poll(&raw mut poll, 1, -1) } < 0 {
                again_after_interruption()?;
                continue;
            }
            if poll.revents & libc::POLLIN == 0 {
                return Ok(None);
            }
            // SAFETY: integers alone, for which zero is a value; the kernel wants it zeroed.
            let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
            // SAFETY: the request takes a pointer to this structure, and `call` is one.
            let received = unsafe {
                libc::ioctl(
                    self.0.as_raw_fd(),
                    libc::SECCOMP_IOCTL_NOTIF_RECV,
                    &raw mut call,
                )
            };
            if received == 0 {
                return Ok(Some(Waiting {
                    id: call.id,
                    thread: call.pid,
                    number: c_long::from(call.data.nr),
                    arguments: call.data.args,
                }));
            }
            again_after_interruption()?;
        }
    }

    /// Lets a call happen, or makes it fail with an error number and without any effect.
    pub fn answer(&self, call: &Waiting, failure: Option<i32>) -> io::Result<()> {
        let carry_on = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        let mut answer = libc::seccomp_notif_resp {
            id: call.id,
            val: 0,
            error: failure.map_or(0, |errno| -errno),
            flags: match failure {
                Some(_) => 0,
                None => u32::try_from(carry_on).map_err(io::Error::other)?,
            },
        };
        // SAFETY: the request takes a pointer to this structure, and `answer` is one.
        let sent = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SEND,
                &raw mut answer,
            )
        };
        match sent {
            0 => Ok(()),
            _ => again_after_interruption(),
        }
    }
}

/// What is no error: a signal, or that the caller was killed meanwhile.
fn again_after_interruption() -> io::Result<()> {
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EINTR | libc::ENOENT) => Ok(()),
        _ => Err(error),
    }
}

/// The kernel's program that picks these system calls out, of this machine's own architecture.
fn filter(numbers: &[c_long]) -> Vec<libc::sock_filter> {
    let step = |code: u32, value: u32, (yes, no): (usize, usize)| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt: u8::try_from(yes).unwrap(),
        jf: u8::try_from(no).unwrap(),
        k: value,
    };
    let load = |offset| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, (0, 0));
    let equals = |value, jumps| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, jumps);
    let end = |action| step(libc::BPF_RET | libc::BPF_K, action, (0, 0));
    // Offsets of `nr` and `arch` in `seccomp_data`.
    let (number_at, architecture_at) = (0, 4);
    let mut filter = vec![
        load(architecture_at),
        equals(ARCHITECTURE, (1, 0)),
        end(libc::SECCOMP_RET_ALLOW),
        load(number_at),
    ];
    for (place, number) in numbers.iter().enumerate() {
        let to_the_last = numbers.len() - place;
        filter.push(equals(u32::try_from(*number).unwrap(), (to_the_last, 0)));
    }
    filter.push(end(libc::SECCOMP_RET_ALLOW));
    filter.push(end(libc::SECCOMP_RET_USER_NOTIF));
    filter
}
