//! A drain says good-bye to WebSockets, and at no wrong moment.

use std::io::Write;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::common::{Backend, Proxy, shop};
use cutover_wire::proxy::Cut;

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// A text frame `hi` of a client, with a mask of zeros, and the same of a server.
const ASKED: &[u8] = b"\x81\x82\0\0\0\0hi";
const ANSWERED: &[u8] = b"\x81\x02hi";

/// The close frame of a proxy (1012), and a client's answer to it.
const GOOD_BYE: &[u8] = b"\x88\x02\x03\xf4";
const GOOD_BYE_TOO: &[u8] = b"\x88\x82\0\0\0\0\x03\xf4";

/// A target that echoes the message when the test lets it.
fn slow_echo() -> (Backend, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (tell, asked) = mpsc::channel();
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let backend = Backend::raw(move |_, mut client| {
        client.read().unwrap();
        client.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Accept: y\r\n\r\n",
        );
        client.exactly(ASKED.len()).unwrap();
        tell.send(()).unwrap();
        let _ = gate.lock().unwrap().recv();
        client.stream.write_all(ANSWERED).unwrap();
        assert_eq!(client.exactly(GOOD_BYE_TOO.len()).unwrap(), GOOD_BYE_TOO);
    });
    (backend, asked, release)
}

#[test]
fn a_good_bye_waits_for_the_answer_to_what_the_client_said() {
    let proxy = Proxy::start(&[]);
    let (backend, asked, release) = slow_echo();
    let addresses = [backend.address];
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    let mut client = proxy.client();
    client.send(UPGRADE);
    assert_eq!(client.head().unwrap().status(), 101);
    client.stream.write_all(ASKED).unwrap();
    asked.recv().unwrap();
    let cut = Some(Cut {
        streams_ms: None,
        tunnels_ms: Some(0),
        spread_ms: 0,
    });
    thread::scope(|scope| {
        let drain = scope.spawn(|| proxy.drain_and_cut(&["v1-0"], Duration::from_secs(15), cut));
        // Time enough for a good-bye at the wrong moment.
        client
            .stream
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let early = client.exactly(1);
        assert!(early.is_err(), "{early:?} before the answer");
        client.stream.set_read_timeout(None).unwrap();
        release.send(()).unwrap();
        assert_eq!(client.exactly(ANSWERED.len()).unwrap(), ANSWERED);
        assert_eq!(client.exactly(GOOD_BYE.len()).unwrap(), GOOD_BYE);
        client.stream.write_all(GOOD_BYE_TOO).unwrap();
        let drained = drain.join().unwrap();
        assert_eq!((drained.tunnels, drained.tunnels_cut), (0, 1));
    });
}
