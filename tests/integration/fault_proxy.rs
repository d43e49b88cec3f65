//! The proxy of the testbed does to connections what it says, so that tests behind it prove something.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::testbed::{Fault, FaultProxy, Way, wait_for};

/// A server that answers what it is sent, and a proxy that leads to it.
fn echo() -> FaultProxy {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = FaultProxy::start();
    proxy.lead_to(&server.local_addr().unwrap().to_string());
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 1024];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    stream.write_all(&buffer[..read]).unwrap();
                }
            });
        }
    });
    proxy
}

fn connect(proxy: &FaultProxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    let patience = Some(Duration::from_millis(300));
    stream.set_read_timeout(patience).unwrap();
    stream
}

/// What comes back of five bytes.
fn asked(stream: &mut TcpStream) -> Result<(), ErrorKind> {
    let mut answer = [0; 5];
    let answered = stream
        .write_all(b"hello")
        .and_then(|()| stream.read_exact(&mut answer));
    answered.map_err(|error| error.kind())?;
    assert_eq!(&answer, b"hello");
    Ok(())
}

#[test]
fn the_proxy_resets_every_second_connection_and_all_that_are_there() {
    let proxy = echo();
    proxy.set(Fault::ResetEvery(2));
    let outcomes = [(); 4].map(|()| asked(&mut connect(&proxy)));
    let reset = Err(ErrorKind::ConnectionReset);
    assert_eq!(outcomes, [Ok(()), reset, Ok(()), reset]);
    assert_eq!(proxy.accepted(), 4);
    proxy.set(Fault::ResetBeyond(1));
    let outcomes = [(); 3].map(|()| asked(&mut connect(&proxy)));
    assert_eq!(outcomes, [Ok(()), reset, reset]);
    proxy.set(Fault::None);
    let mut stream = connect(&proxy);
    assert_eq!(asked(&mut stream), Ok(()));
    proxy.reset_all();
    wait_for("a reset", || asked(&mut stream).is_err());
    assert_eq!(asked(&mut connect(&proxy)), Ok(()));
}

#[test]
fn the_proxy_refuses_and_listens_again() {
    let proxy = echo();
    proxy.set(Fault::Refuse);
    wait_for("a refusal", || TcpStream::connect(proxy.address()).is_err());
    proxy.set(Fault::None);
    wait_for("a listener", || TcpStream::connect(proxy.address()).is_ok());
    assert_eq!(asked(&mut connect(&proxy)), Ok(()));
}

#[test]
fn the_proxy_is_silent_where_it_is_half_open_or_one_way_is_lost() {
    let proxy = echo();
    for fault in [
        Fault::HalfOpen,
        Fault::Drop(Way::ToBroker),
        Fault::Drop(Way::ToClient),
    ] {
        proxy.set(Fault::None);
        let mut before = connect(&proxy);
        assert_eq!(asked(&mut before), Ok(()));
        proxy.set(fault);
        assert_eq!(asked(&mut before), Err(ErrorKind::WouldBlock), "{fault:?}");
        let mut after = connect(&proxy);
        assert_eq!(asked(&mut after), Err(ErrorKind::WouldBlock), "{fault:?}");
    }
}

#[test]
fn the_proxy_delays_and_trickles() {
    let proxy = echo();
    let pause = Duration::from_millis(40);
    // Five bytes, there and back: four pauses lie between five bytes.
    for (fault, least) in [
        (Fault::Delay(pause), 2 * pause),
        (
            Fault::Trickle {
                bytes: 1,
                every: pause,
            },
            4 * pause,
        ),
    ] {
        proxy.set(fault);
        let began = Instant::now();
        assert_eq!(asked(&mut connect(&proxy)), Ok(()));
        assert!(began.elapsed() >= least, "{fault:?}");
    }
}
