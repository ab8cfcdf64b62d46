//! The answers of the field, and seeded mutations of them: `ANSWER_SEED=n cargo test --lib negotiate` makes those of one seed.

#[path = "../../../tests/support/answers.rs"]
mod answers;

use fastrand::Rng;
use gst_webrtc::WebRTCRTPTransceiverDirection::Sendonly;

use crate::media::tracks::{Hatch, Promise, SharedClock};
use crate::sdp::check_answer;
use crate::uplink::certificate::Certificate;

use super::*;
use answers::{ANSWERS, illegal, legal, soundless};

/// As webrtcbin makes it.
const OFFER: &str = include_str!("../../../tests/support/offer.sdp");
/// For each seed.
const MUTATIONS: usize = 1_000;
/// Each takes webrtcbin some 20 ms.
const INTO_WEBRTCBIN: usize = 24;

/// One that is the same in every run, and one that is not; printed for whoever has to repeat it.
fn seeds() -> Vec<u64> {
    let seeds = match std::env::var("ANSWER_SEED") {
        Ok(seed) => vec![seed.parse().expect("ANSWER_SEED is a number")],
        Err(_) => vec![1, Rng::new().u64(..)],
    };
    println!("ANSWER_SEED: {seeds:?}");
    seeds
}

fn any<'a>(dice: &mut Rng) -> (&'a str, &'a str) {
    ANSWERS[dice.usize(..ANSWERS.len())]
}

#[test]
fn what_the_stacks_of_the_field_answer_is_accepted() {
    for (stack, answer) in ANSWERS {
        let accepted = check_answer(OFFER, answer).unwrap_or_else(|why| panic!("{stack}: {why:?}"));
        assert!(accepted.candidates > 0 && accepted.check_reach(false, true).is_ok(), "{stack}: {accepted:?}");
        assert_eq!(accepted.media.len(), 2, "{stack}");
    }
}

#[test]
fn an_answer_that_is_right_but_unusual_says_the_same() {
    for seed in seeds() {
        let mut dice = Rng::with_seed(seed);
        for _mutation in 0..MUTATIONS {
            let (stack, answer) = any(&mut dice);
            let (mutant, edits) = legal(answer, &mut dice);
            let plain = check_answer(OFFER, answer).unwrap();
            let accepted = check_answer(OFFER, &mutant)
                .unwrap_or_else(|why| panic!("ANSWER_SEED={seed}, {stack}, {edits}: {why:?}\n{mutant}"));
            assert_eq!(accepted.media, plain.media, "ANSWER_SEED={seed}, {stack}, {edits}\n{mutant}");
            let again = check_answer(OFFER, &accepted.normalised).unwrap();
            assert_eq!(again.normalised, accepted.normalised, "ANSWER_SEED={seed}: once is enough");
            let ufrags =
                |sdp: &str| sdp.lines().filter(|line| line.starts_with("a=ice-ufrag:")).collect::<Vec<_>>().join(" ");
            assert_eq!(
                ufrags(&accepted.normalised),
                ufrags(&plain.normalised),
                "ANSWER_SEED={seed}, {edits}\n{mutant}"
            );
            sdp::check_same_peer(&plain.normalised, &accepted.normalised).unwrap();
        }
    }
}

#[test]
fn an_answer_that_is_wrong_gets_its_sentence() {
    for seed in seeds() {
        let mut dice = Rng::with_seed(seed);
        for _mutation in 0..MUTATIONS {
            let (stack, answer) = any(&mut dice);
            let (mutant, edit, words) = illegal(answer, &mut dice);
            let Err(rejection) = check_answer(OFFER, &mutant) else {
                panic!("ANSWER_SEED={seed}, {stack}, {edit}: accepted\n{mutant}")
            };
            let said = &rejection.failure.words;
            assert!(said.contains(words), "ANSWER_SEED={seed}, {stack}, {edit}: {said}\n{mutant}");
            assert!(!said.contains(char::is_control) && !rejection.sound_alone, "{edit}: {rejection:?}");
            let (mutant, edit) = soundless(answer, &mut dice);
            let rejection = check_answer(OFFER, &mutant).expect_err(edit);
            assert!(rejection.sound_alone, "ANSWER_SEED={seed}, {stack}, {edit}: {rejection:?}\n{mutant}");
        }
    }
}

/// What we accept webrtcbin accepts: on one that has made the offer.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_accepted_goes_into_webrtcbin() {
    gst::init().unwrap();
    for (stack, answer) in ANSWERS {
        into_webrtcbin(stack, answer).await;
    }
    for seed in seeds() {
        let mut dice = Rng::with_seed(seed);
        for _mutation in 0..INTO_WEBRTCBIN {
            let (stack, answer) = any(&mut dice);
            let (mutant, edits) = legal(answer, &mut dice);
            into_webrtcbin(&format!("ANSWER_SEED={seed}, {stack}, {edits}"), &mutant).await;
        }
    }
}

async fn into_webrtcbin(what: &str, answer: &str) {
    let config = crate::config::load("", "defaults", std::iter::empty()).unwrap();
    let hatch = Hatch::new(&[TrackKind::Video, TrackKind::Audio]);
    let (clock, certificate) = (SharedClock::start(), Certificate::generate().unwrap());
    let (tell, _heard) = mpsc::unbounded_channel();
    let offered = Offered::new(&config.video, Promise::default(), None, true);
    // Not libnice: closed while it looks for paths, that of Debian 12 now and then calls into a webrtcbin that is gone.
    let roaming = Roaming::start(&config.network, &config.uplink, tokio::sync::watch::channel(Vec::new()).1, |_| {});
    let roaming = Some(roaming);
    let peer = Peer::new(hatch.tracks(), &config.uplink, &offered, &clock, Some(&certificate), roaming, &tell).unwrap();
    let offer = peer.offer().await.unwrap();
    assert!(!offer.contains("bundle-only") && offer.contains("m=audio 9 "), "{offer}");
    let accepted = check_answer(&offer, answer).unwrap_or_else(|why| panic!("{what}: {why:?}\n{answer}"));
    peer.take_offer(&offer).await.unwrap();
    let taken = peer.answer(&accepted.normalised).await;
    assert!(taken.is_ok(), "{what}: {taken:?}\n{}", accepted.normalised);
    assert_eq!(peer.agreed_directions(), [Sendonly, Sendonly], "{what}\n{}", accepted.normalised);
    spawn_blocking(move || drop(peer)).await.unwrap();
}
