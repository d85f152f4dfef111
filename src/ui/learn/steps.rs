//! The walk's texts: ten steps from weights to a smaller network. Words of the glossary are written `{key:words}`.

/// What a step shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exhibit {
    /// Pairs of weights of two channels.
    Pairs,
    /// Axes to turn.
    Plane,
    /// Bits of layers, before and after calibration.
    Gradients,
    /// The curve, and what the next bit buys.
    Curve,
    /// Bits of layers, and λ.
    Level,
    /// Blocks without bits.
    Zeros,
    /// Codings side by side.
    Coding,
    /// Methods side by side.
    Feedback,
    /// Both networks on test images.
    Accuracy,
    /// Where to go from here.
    Next,
}

/// An answer that can be chosen: words, whether it is right, and why.
pub type Choice = (&'static str, bool, &'static str);

/// A step.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Its title.
    pub title: &'static str,
    /// Two or three sentences.
    pub words: &'static str,
    /// What it shows.
    pub exhibit: Exhibit,
    /// A question.
    pub question: &'static str,
    /// Its answers.
    pub choices: [Choice; 3],
    /// Where in the paper; nothing if it is not there.
    pub paper: Option<&'static str>,
}

/// The steps.
pub const STEPS: [Step; 10] = [
    Step {
        title: "Weights repeat each other",
        words: "The {weight:weights} of a layer are not independent numbers: channels that look for similar things have similar weights. \
            That is {correlation:correlation}, and what is repeated need not be stored twice.",
        exhibit: Exhibit::Pairs,
        question: "Two weights are always equal. How many numbers have to be stored for each pair?",
        choices: [
            ("Two", false, "The second can be told from the first: it is no news."),
            ("One", true, "The second follows from the first. The closer the points come to a line, the closer a pair comes to this."),
            ("None", false, "The weights are equal to each other, but not the same at every place: one number is still news."),
        ],
        paper: Some("Section 4.2"),
    },
    Step {
        title: "Turn the axes",
        words: "Turn the axes until they lie along the cloud. Along its long axis {coefficient:coefficients} vary much, along its short axis little, and what \
            varies little needs few bits. The best rotation is the {klt:KLT}, and what it is worth is its {coding-gain:coding gain}.",
        exhibit: Exhibit::Plane,
        question: "The correlation is 0, and both variances are equal. What does turning the axes gain?",
        choices: [
            ("Nothing", true, "The cloud is round: along all axes it varies alike, and their product stays what it was."),
            ("One bit", false, "Set the correlation to 0 and turn: the coding gain does not move."),
            ("It depends on the angle", false, "Set the correlation to 0 and turn: the coding gain is the same at every angle."),
        ],
        paper: Some("Section 4.2 and eq. 11"),
    },
    Step {
        title: "Errors count where the output feels them",
        words: "An error in one weight may ruin the output, and the same error in another may go unseen. {calibration:Calibration} runs the network on images and \
            takes {gradient:gradients} of its output by every weight. Then {distortion:distortion} is that of the output, and the {elt:ELT} knows of it, too.",
        exhibit: Exhibit::Gradients,
        question: "Two layers have weights of equal variance, but in the first all gradients are ten times as large. How are bits shared out?",
        choices: [
            ("Alike: the variances are equal", false, "Variances say how large errors are, gradients what they do."),
            (
                "The first gets about 3.3 bits more for each weight",
                true,
                "Ten times the gradient is a hundred times the squared error of the output, and ½ log₂ 100 = 3.3 bits make good for it.",
            ),
            ("The first gets all the bits", false, "It gets more, until a further bit helps as much in the second as in the first."),
        ],
        paper: Some("Sections 3 and 4.2"),
    },
    Step {
        title: "What a bit buys",
        words: "One more bit per weight halves the {step-size:step size}, and so makes the squared error four times smaller: 6 dB. That is the rule for many bits; \
            at few bits a true {rd-curve:curve} bends away from it. Move the slider, and see what the next bit buys on this network.",
        exhibit: Exhibit::Curve,
        question: "By the rule of 6 dB a bit: from 3 to 5 bits per weight, how much smaller is the squared error?",
        choices: [
            ("2 times", false, "Each of the two bits halves the step, and the error is squared."),
            ("4 times", false, "That is what one bit does."),
            ("16 times", true, "Two bits are 12 dB, and 4 × 4 = 16."),
        ],
        paper: Some("Section 3"),
    },
    Step {
        title: "One water level for all layers",
        words: "Who shall have the next bit? The layer in which it takes most distortion away. When bits are shared out well, this {slope:slope} is the same \
            everywhere: the {water-level:water level λ}. Pour in more {budget:budget}: λ falls, and bits rise, but not alike in every layer.",
        exhibit: Exhibit::Level,
        question: "Here distortion falls by 3 units per bit in layer A, and by 1 unit per bit in layer B. Both are equally large. What is better?",
        choices: [
            ("Leave it: both layers have bits", false, "The slopes differ, so there is distortion to be saved at the same rate."),
            (
                "Move some of B's bits to A",
                true,
                "Every hundredth of a bit that moves takes 0.03 units away in A and adds 0.01 in B. Go on until the slopes are equal.",
            ),
            ("Move some of A's bits to B", false, "Every hundredth of a bit that moves adds 0.03 units in A and takes 0.01 away in B."),
        ],
        paper: Some("eq. 8 and Algorithm 1"),
    },
    Step {
        title: "Under the water: pruning",
        words: "A row of coefficients whose variance lies under the water level gets no bits at all: it is a {zero-row:zero row}. Nobody decided on {pruning:pruning}; \
            it follows from sharing bits out well. Its axis in the {basis:basis} is not stored either.",
        exhibit: Exhibit::Zeros,
        question: "The budget becomes smaller. What do zero rows do?",
        choices: [
            ("They become fewer", false, "With fewer bits the water level rises, and more variances lie under it."),
            ("They become more", true, "The water level rises, and more variances lie under it. Move the slider and count."),
            ("They stay: rows are pruned once", false, "They follow the water level. Move the slider and count."),
        ],
        paper: Some("Section 4.3 and Fig. 7"),
    },
    Step {
        title: "Frequent values, few bits",
        words: "Most {index:indices} are small, and many are zero. {entropy-coding:Entropy coding} writes frequent values in fewer bits than rare ones, without loss. \
            A {dead-zone:dead zone} around zero makes zeros still more frequent. Choose how indices are coded, and compare.",
        exhibit: Exhibit::Coding,
        question: "All eight values of a 3-bit index are equally frequent and independent. What does entropy coding save?",
        choices: [
            ("Nothing", true, "The entropy is log₂ 8 = 3 bits. There is something to save where values are not equally frequent."),
            ("About 30 %", false, "That is what it saves on weights, whose values are far from equally frequent."),
            ("Half", false, "The entropy of eight equally frequent values is log₂ 8 = 3 bits: all of it is needed."),
        ],
        paper: Some("an outlook there, worked out here"),
    },
    Step {
        title: "Let later weights make good",
        words: "A weight need not go to its nearest value. With {error-feedback:error feedback} weights are quantized one after the other, and each moves first to make \
            good what the errors before it do to the output. It needs no basis, and at few bits it comes closer to the {limit:limit}.",
        exhibit: Exhibit::Feedback,
        question: "What does error feedback make smaller?",
        choices: [
            (
                "The error of every weight",
                false,
                "Weights move away from their nearest values: their own errors become larger, if anything.",
            ),
            (
                "The error of the output",
                true,
                "Errors of weights are arranged so that they cancel out in the output, though each may be larger.",
            ),
            ("The number of weights", false, "All weights stay. Their errors are arranged so that they cancel out in the output."),
        ],
        paper: None,
    },
    Step {
        title: "Match gains, and measure",
        words: "What errors are left make some channels weaker or shifted. {matching:Gain and bias matching} gives every output channel its mean and spread back. \
            Then both networks are run on images, and what counts is measured: {top-1:top-1 accuracy}, {agreement:agreement}, {sqnr:SQNR}.",
        exhibit: Exhibit::Accuracy,
        question: "The model says that the output's distortion is −20 dB. Is the accuracy known?",
        choices: [
            ("Yes: it falls by 1 %", false, "1 % is the power of the error. How many decisions it changes depends on how close they were."),
            ("Yes: it does not fall", false, "An error of 1 % of the power can change a close decision."),
            (
                "No: it has to be measured",
                true,
                "Distortion says how large the error is, and images with labels say how many decisions it changes.",
            ),
        ],
        paper: Some("Figs. 6 and 9; matching is not in the paper"),
    },
    Step {
        title: "What retraining would win back, and what to do next",
        words: "Measured over the {rate:rate}, accuracy holds for long, and then falls. What it loses there {retraining:retraining} can win back in part: after a few rounds \
            the weights have adapted to being quantized. This program does not do that yet. What it does with your own network is below.",
        exhibit: Exhibit::Next,
        question: "At 1 bit per weight your network has lost accuracy. What can be done on this page?",
        choices: [
            (
                "Retrain it",
                false,
                "Not here: this program does not train. Take the decoded model with you, and train it where you made it.",
            ),
            (
                "Calibrate, and choose error feedback",
                true,
                "Both use what the output feels, and at few bits they are worth most. Then measure again.",
            ),
            (
                "Exclude all layers",
                false,
                "Then nothing is compressed. Excluding the one layer that does most damage may help: see “Find who did the damage”.",
            ),
        ],
        paper: Some("Section 5.3"),
    },
];

/// A piece of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Words(&'static str),
    /// A key of the glossary, and words.
    Term(&'static str, &'static str),
}

/// The pieces of a text.
pub fn pieces(text: &'static str) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((term, after)) = after.split_once('}') else { break };
        let (key, words) = term.split_once(':').unwrap_or((term, term));
        if !before.is_empty() {
            out.push(Piece::Words(before));
        }
        out.push(Piece::Term(key, words));
        rest = after;
    }
    if !rest.is_empty() {
        out.push(Piece::Words(rest));
    }
    out
}

/// The step of an address, from 0; nothing for what is no step.
pub fn read(value: &str) -> Option<usize> {
    value.trim().parse::<usize>().ok()?.checked_sub(1).filter(|&i| i < STEPS.len())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ui::glossary;

    #[test]
    fn texts_are_split_at_their_terms() {
        use Piece::{Term, Words};
        assert_eq!(
            pieces("A {rate:bit rate} is {klt}."),
            [Words("A "), Term("rate", "bit rate"), Words(" is "), Term("klt", "klt"), Words(".")]
        );
        assert_eq!(pieces("{a:b}"), [Term("a", "b")]);
        assert_eq!(pieces("no end {a"), [Words("no end {a")]);
        assert_eq!(pieces(""), []);
    }

    #[test]
    fn the_terms_of_the_walk_are_in_the_glossary() {
        let mut keys = BTreeSet::new();
        for step in &STEPS {
            let terms: Vec<_> = pieces(step.words).into_iter().filter(|p| matches!(p, Piece::Term(..))).collect();
            assert!(!terms.is_empty(), "{}", step.title);
            for piece in terms {
                let Piece::Term(key, words) = piece else { continue };
                assert!(glossary::find(key).is_some(), "{}: {key}", step.title);
                assert!(words.len() > 2, "{}: {words}", step.title);
                keys.insert(key);
            }
            let plain = [step.title, step.question].into_iter().chain(step.choices.iter().flat_map(|c| [c.0, c.2]));
            assert!(plain.into_iter().all(|text| !text.contains('{')), "{}", step.title);
        }
        assert!(keys.len() >= 20, "{keys:?}");
    }

    #[test]
    fn every_step_is_whole() {
        let mut exhibits = Vec::new();
        for step in &STEPS {
            assert_eq!(step.choices.iter().filter(|c| c.1).count(), 1, "{}: one answer is right", step.title);
            assert!(step.choices.iter().all(|c| c.2.ends_with('.')), "{}: each says why", step.title);
            assert!(step.question.ends_with('?') && step.words.ends_with('.'), "{}", step.title);
            let sentences = step.words.matches(". ").count() + step.words.matches("? ").count() + 1;
            assert!((2..=4).contains(&sentences), "{}: {sentences} sentences", step.title);
            assert!(!exhibits.contains(&step.exhibit), "{}", step.title);
            exhibits.push(step.exhibit);
        }
        // The answer is not always in the same place.
        let right: BTreeSet<_> = STEPS.iter().map(|s| s.choices.iter().position(|c| c.1)).collect();
        assert_eq!(right.len(), 3);
    }

    #[test]
    fn addresses_count_from_one() {
        assert_eq!([read("1"), read(" 10 "), read("4")], [Some(0), Some(9), Some(3)]);
        for wrong in ["0", "11", "-1", "", "a", "1.5", "99999999999999999999999"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
