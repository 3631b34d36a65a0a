//! What a person says to a deploy: who may say it, and that it is taken once.

use cutover_plan::event::{Event, Promotion};
use cutover_wire::agent::{Accepted, DeployView, decision_path};

use crate::host::{Answer, Call, Host, ROLLBACK, WAITS, id, token};
use crate::local::{ask, post};

const WORDS: [(&str, &str); 3] = [
    ("approve", r#"{"approve":{}}"#),
    ("reject", r#"{"reject":{"why":"too slow"}}"#),
    ("promote", r#"{"promote":{"full":true}}"#),
];

fn body(deploy: impl std::fmt::Display, decision: &str) -> String {
    format!(r#"{{"deploy":"{deploy}","decision":{decision},"by":"ada"}}"#)
}

/// The words that were said to the deploy, as the journal has them.
fn said(host: &Host, number: u64) -> Vec<Event> {
    let events = host.journal.events(&id(number), 0, 100).unwrap();
    let events = events.into_iter().map(|recorded| recorded.event);
    let is_word = |event: &Event| {
        matches!(
            event,
            Event::Approved { .. } | Event::Rejected { .. } | Event::PromoteRequested { .. }
        )
    };
    events.filter(is_word).collect()
}

async fn check_refused(host: &Host, request: &str, status: u16, code: &str) -> Answer {
    let before = host.disk();
    let answer = host.ask(request).await;
    assert_eq!(
        (answer.status, answer.problem().code.as_str()),
        (status, code),
        "{request}\n{answer:?}"
    );
    assert!(host.disk() == before, "the journal changed: {request}");
    answer
}

#[tokio::test]
async fn a_signed_word_is_taken_once_however_often_it_comes() {
    for (number, (word, decision)) in (1..).zip(WORDS) {
        let host = Host::new().await;
        let deploy = host.begin(number);
        host.note(&deploy, WAITS);
        let mut call = Call::new(&decision_path(&deploy, word), &body(&deploy, decision));
        call.id = format!("word-{word}");
        let answer = host.ask(&call.request()).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(answer.json::<DeployView>().deploy, deploy);
        let expected = said(&host, number);
        match (word, &expected[..]) {
            ("approve", [Event::Approved { by, .. }]) => assert_eq!(by, "ada"),
            ("reject", [Event::Rejected { by, why }]) => {
                assert_eq!((by.as_str(), why.as_deref()), ("ada", Some("too slow")));
            }
            ("promote", [Event::PromoteRequested { by, how, .. }]) => {
                assert_eq!((by.as_str(), *how), ("ada", Promotion::Full));
            }
            (word, events) => panic!("{word}: {events:?}"),
        }
        // The deploy waits again by now, and somebody sends what was sent before.
        host.note(&deploy, WAITS);
        assert_eq!(host.ask(&call.request()).await.status, 202);
        assert_eq!(said(&host, number), expected, "{word} was taken twice");
        // Another call is another word.
        call.id = format!("{word}-again");
        assert_eq!(host.ask(&call.request()).await.status, 202);
        assert_eq!(said(&host, number).len(), 2);
    }
}

#[tokio::test]
async fn the_token_of_a_deploy_approves_nothing() {
    let host = Host::new().await;
    let deploy = host.begin(1);
    host.note(&deploy, WAITS);
    for (word, decision) in WORDS {
        let path = decision_path(&deploy, word);
        let bearer = format!("authorization: Bearer {}\r\n", token(&deploy));
        for body in [String::new(), body(&deploy, decision)] {
            let answer =
                check_refused(&host, &post(&path, &bearer, &body), 403, "not_by_token").await;
            assert!(answer.problem().hint.unwrap().contains("sign"));
            check_refused(&host, &post(&path, "", &body), 401, "unsigned").await;
        }
        // A signature that is wrong is not made right by the token.
        let mut call = Call::new(&path, &body(&deploy, decision));
        call.signed = String::new();
        call.headers = bearer;
        check_refused(&host, &call.request(), 401, "unsigned").await;
    }
    assert_eq!(said(&host, 1), []);
}

#[tokio::test]
async fn path_and_body_agree_or_nothing_is_done() {
    let host = Host::new().await;
    let deploy = host.begin(1);
    host.note(&deploy, WAITS);
    let approve = decision_path(&deploy, "approve");
    for wrong in [
        body(id(2), r#"{"approve":{}}"#),
        body(&deploy, r#"{"reject":{}}"#),
        body(&deploy, r#"{"promote":{}}"#),
        body(&deploy, r#"{"approve":{"all":true}}"#),
        format!(r#"{{"abort":"{deploy}"}}"#),
        String::new(),
    ] {
        let call = Call::new(&approve, &wrong);
        check_refused(&host, &call.request(), 400, "bad_request").await;
    }
    let missing = decision_path(&id(2), "approve");
    let call = Call::new(&missing, &body(id(2), r#"{"approve":{}}"#));
    check_refused(&host, &call.request(), 404, "unknown_deploy").await;
    // The id of a call that was about another deploy is not taken for this one.
    let other = Call::new(&approve, &body(&deploy, r#"{"approve":{}}"#));
    assert_eq!(host.ask(&other.request()).await.status, 202);
    host.end(&deploy);
    let second = host.begin(3);
    let again = Call::new(
        &decision_path(&second, "approve"),
        &body(&second, r#"{"approve":{}}"#),
    );
    check_refused(&host, &again.request(), 409, "used_id").await;
}

#[tokio::test]
async fn a_call_and_a_word_of_one_id_are_not_taken_for_each_other() {
    let host = Host::new().await;
    let begins = Call::new("/v1/deploys", ROLLBACK);
    let answer = host.ask(&begins.request()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let deploy = answer.json::<Accepted>().deploy;
    host.note(&deploy, WAITS);
    let approve = decision_path(&deploy, "approve");
    let mut word = Call::new(&approve, &body(&deploy, r#"{"approve":{}}"#));
    check_refused(&host, &word.request(), 409, "used_id").await;
    word.id = "word-1".to_owned();
    assert_eq!(host.ask(&word.request()).await.status, 202);
    let mut second = Call::new("/v1/deploys", ROLLBACK);
    second.id.clone_from(&word.id);
    check_refused(&host, &second.request(), 409, "used_id").await;
}

#[tokio::test]
async fn a_word_that_nobody_asked_for_leaves_no_trace() {
    let host = Host::new().await;
    let deploy = host.begin(1);
    let path = decision_path(&deploy, "approve");
    let call = Call::new(&path, &body(&deploy, r#"{"approve":{}}"#));
    check_refused(&host, &call.request(), 409, "not_asked").await;
    host.note(&deploy, WAITS);
    // Refused before, so the same call may be taken now.
    assert_eq!(host.ask(&call.request()).await.status, 202);
}

#[tokio::test]
async fn on_the_socket_the_plain_word_is_enough() {
    let host = Host::new().await;
    let socket = host.socket();
    let deploy = host.begin(1);
    for (count, (word, decision)) in (1..).zip(WORDS) {
        let path = decision_path(&deploy, word);
        host.note(&deploy, WAITS);
        let plain = ask(&socket, &post(&path, "", "")).await;
        assert_eq!(plain.status, 202, "{plain:?}");
        host.note(&deploy, WAITS);
        let named = post(&path, "webhook-id: one\r\n", &body(&deploy, decision));
        if count == 1 {
            assert_eq!(ask(&socket, &named).await.status, 202);
            host.note(&deploy, WAITS);
        }
        // The same id says nothing new.
        assert_eq!(ask(&socket, &named).await.status, 202);
        assert_eq!(said(&host, 1).len(), count + 1, "{word}");
        let wrong = post(&path, "", &body(id(2), decision));
        assert_eq!(ask(&socket, &wrong).await.status, 400);
    }
    let [Event::Approved { by, .. }, ..] = &said(&host, 1)[..] else {
        panic!("{:?}", said(&host, 1));
    };
    assert_eq!(by, "somebody on the host");
    assert!(said(&host, 1).iter().any(
        |event| matches!(event, Event::PromoteRequested { how, .. } if *how == Promotion::Next)
    ));
}
