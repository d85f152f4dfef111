//! How images become inputs: in words, and as a form in which the guess can be corrected.

use leptos::prelude::*;

use super::{state::App, term::Term};
use crate::report::{Channels, Preprocessing};

/// Longest side that is taken for one, in pixels.
const MOST: usize = 1 << 14;

/// A channel order: key, name.
const ORDERS: [(Channels, &str, &str); 3] =
    [(Channels::Rgb, "rgb", "RGB"), (Channels::Bgr, "bgr", "BGR"), (Channels::Grey, "grey", "grey")];

fn order_name(channels: Channels) -> &'static str {
    ORDERS.iter().find(|o| o.0 == channels).map_or("", |o| o.2)
}

/// A scale as a person would write it: `1/255` for 0.003921569.
fn scale(v: f32) -> String {
    let inverse = (1.0 / v).round();
    if (2.0..=65536.0).contains(&inverse) && 1.0 / inverse == v { format!("1/{inverse}") } else { v.to_string() }
}

fn numbers(values: &[f32]) -> String {
    values.iter().map(f32::to_string).collect::<Vec<_>>().join(", ")
}

/// Preprocessing in one clause.
pub fn words(p: &Preprocessing) -> String {
    let mut parts = Vec::new();
    if let Some(side) = p.resize {
        parts.push(format!("shorter side {side}"));
    }
    if let Some([height, width]) = p.crop {
        parts.push(format!("{height} × {width} from the centre"));
    }
    parts.push(order_name(p.channels).into());
    if p.scale != 1.0 {
        parts.push(format!("× {}", scale(p.scale)));
    }
    if p.mean.iter().any(|&m| m != 0.0) {
        parts.push(format!("− {}", numbers(&p.mean)));
    }
    if p.std.iter().any(|&s| s != 1.0) {
        parts.push(format!("÷ {}", numbers(&p.std)));
    }
    if p.channels_last {
        parts.push("channels last".into());
    }
    parts.join(" · ")
}

/// A field of the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Resize,
    Crop,
    Scale,
    Mean,
    Std,
}

impl Field {
    /// Key, label, hint.
    const ALL: [(Field, &'static str, &'static str, &'static str); 5] = [
        (Field::Resize, "resize", "Shorter side", "not resized"),
        (Field::Crop, "crop", "Centre crop", "none"),
        (Field::Scale, "scale", "Scale", "1/255"),
        (Field::Mean, "mean", "Mean", "0"),
        (Field::Std, "std", "Deviation", "1"),
    ];
}

/// The form as it is typed.
#[derive(Debug, Clone, PartialEq)]
struct Form {
    resize: String,
    crop: String,
    channels: Channels,
    scale: String,
    mean: String,
    std: String,
    channels_last: bool,
}

/// A number, or a fraction of two.
fn parse(text: &str) -> Option<f32> {
    let v = match text.split_once('/') {
        Some((over, under)) => over.trim().parse::<f32>().ok()? / under.trim().parse::<f32>().ok()?,
        None => text.trim().parse().ok()?,
    };
    v.is_finite().then_some(v)
}

/// Numbers, apart by commas, semicolons or spaces.
fn list(text: &str) -> Option<Vec<f32>> {
    let words = text.split([',', ';', ' ']).filter(|w| !w.is_empty());
    words.map(parse).collect::<Option<Vec<_>>>().filter(|values| !values.is_empty())
}

fn side(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|side| (1..=MOST).contains(side))
}

impl Form {
    fn of(p: &Preprocessing) -> Form {
        Form {
            resize: p.resize.map(|side| side.to_string()).unwrap_or_default(),
            crop: p.crop.map(|[height, width]| format!("{height} × {width}")).unwrap_or_default(),
            channels: p.channels,
            scale: scale(p.scale),
            mean: numbers(&p.mean),
            std: numbers(&p.std),
            channels_last: p.channels_last,
        }
    }

    fn text(&self, field: Field) -> &str {
        match field {
            Field::Resize => &self.resize,
            Field::Crop => &self.crop,
            Field::Scale => &self.scale,
            Field::Mean => &self.mean,
            Field::Std => &self.std,
        }
    }

    fn set(&mut self, field: Field, text: String) {
        *match field {
            Field::Resize => &mut self.resize,
            Field::Crop => &mut self.crop,
            Field::Scale => &mut self.scale,
            Field::Mean => &mut self.mean,
            Field::Std => &mut self.std,
        } = text;
    }

    /// What the form says, or the field that is wrong, and why.
    fn read(&self) -> Result<Preprocessing, (Field, String)> {
        let sides = format!("whole numbers from 1 to {MOST}");
        let resize = match self.resize.trim() {
            "" => None,
            text => Some(side(text).ok_or((Field::Resize, format!("The shorter side takes {sides}, or nothing.")))?),
        };
        let wrong_crop = || (Field::Crop, format!("The crop takes {sides}, as in 224 × 224, or nothing."));
        let crop = match self.crop.trim() {
            "" => None,
            text => {
                let mut sides = text.split(['×', 'x', 'X', '*', ',']).map(side);
                let height = sides.next().flatten().ok_or_else(wrong_crop)?;
                let width = sides.next().map_or(Some(height), |s| s).ok_or_else(wrong_crop)?;
                if sides.next().is_some() {
                    return Err(wrong_crop());
                }
                Some([height, width])
            }
        };
        if let (Some(side), Some(crop)) = (resize, crop)
            && crop.iter().all(|&c| c > side)
        {
            return Err((Field::Crop, format!("A crop of {} × {} does not fit a shorter side of {side}.", crop[0], crop[1])));
        }
        let scale = parse(&self.scale).filter(|&s| s != 0.0);
        let scale = scale.ok_or((Field::Scale, "The scale takes a number other than 0, as in 1/255.".to_string()))?;
        let channels = if self.channels == Channels::Grey { 1 } else { 3 };
        let per_channel = |field, name: &str, text: &str, fits: fn(f32) -> bool, which: &str| {
            let values = list(text).filter(|v| v.len() == 1 || v.len() == channels).filter(|v| v.iter().all(|&v| fits(v)));
            let many = if channels == 1 { "one number" } else { "one number, or one for each of 3 channels" };
            values.ok_or_else(|| (field, format!("The {name} takes {many}{which}.")))
        };
        Ok(Preprocessing {
            resize,
            crop,
            channels: self.channels,
            scale,
            mean: per_channel(Field::Mean, "mean", &self.mean, |_| true, "")?,
            std: per_channel(Field::Std, "deviation", &self.std, |v| v > 0.0, " above 0")?,
            channels_last: self.channels_last,
            origin: Preprocessing::EDITED.into(),
        })
    }
}

/// Words and form.
#[component]
pub fn PreprocessingForm(app: App) -> impl IntoView {
    let known = app.accuracy;
    // What is typed; none while the form shows what holds.
    let typed = RwSignal::new(None::<Form>);
    let wrong_field = RwSignal::new(None::<Field>);
    Effect::new(move |_| {
        // Another model, or a reset.
        if known.edited.with(|e| e.is_none()) && known.mistake.with_untracked(|m| m.is_none()) {
            typed.set(None);
        }
    });
    let form = move || typed.get().or_else(|| known.preprocessing().map(|p| Form::of(&p)));
    let change = move |change: &dyn Fn(&mut Form)| {
        let Some(mut form) = untrack(form) else { return };
        change(&mut form);
        match form.read() {
            Ok(preprocessing) => {
                known.mistake.set(None);
                wrong_field.set(None);
                known.edited.set(Some(preprocessing));
            }
            Err((field, why)) => {
                wrong_field.set(Some(field));
                known.mistake.set(Some(why));
            }
        }
        typed.set(Some(form));
    };
    let reset = move |_| {
        known.mistake.set(None);
        wrong_field.set(None);
        known.edited.set(None);
        typed.set(None);
    };
    let is_changed = move || known.edited.with(|e| e.is_some()) || known.mistake.with(|m| m.is_some());
    let is_known = Memo::new(move |_| known.guess.with(|g| g.is_some()) || known.edited.with(|e| e.is_some()));
    let text_field = move |(field, key, label, hint): (Field, &'static str, &'static str, &'static str)| {
        view! {
            <div class="field">
                <label for=format!("preprocessing-{key}")>{label}</label>
                <input id=format!("preprocessing-{key}") data-testid=format!("preprocessing-{key}") type="text" autocomplete="off" placeholder=hint
                    aria-describedby="preprocessing-wrong"
                    aria-invalid=move || (known.mistake.with(|m| m.is_some()) && wrong_field.get() == Some(field)).then_some("true")
                    prop:value=move || form().map(|f| f.text(field).to_string()).unwrap_or_default()
                    on:input:target=move |e| change(&|f| f.set(field, e.target().value()))/>
            </div>
        }
    };
    let order_chosen = move |key: String| {
        if let Some((channels, ..)) = ORDERS.into_iter().find(|o| o.1 == key) {
            change(&|f| f.channels = channels);
        }
    };
    view! {
        <Show when=move || is_known.get()>
            <div class="preprocessing">
                <p data-testid="preprocessing"><span class="label"><Term key="preprocessing">"Inputs"</Term>": "</span>{move || known.preprocessing().map(|p| words(&p))}
                    <span class="hint">{move || known.preprocessing().map(|p| format!(" ({})", p.origin))}</span></p>
                <details>
                    <summary data-testid="preprocessing-edit">"Change how images become inputs"</summary>
                    <div class="fields">
                        {Field::ALL.map(text_field).collect_view()}
                        <div class="field">
                            <label for="preprocessing-channels">"Channels"</label>
                            <select id="preprocessing-channels" data-testid="preprocessing-channels" on:change:target=move |e| order_chosen(e.target().value())>
                                {ORDERS.map(|(channels, key, name)| view! {
                                    <option value=key prop:selected=move || form().is_some_and(|f| f.channels == channels)>{name}</option>
                                }).collect_view()}
                            </select>
                        </div>
                        <label class="tick">
                            <input type="checkbox" data-testid="preprocessing-last" prop:checked=move || form().is_some_and(|f| f.channels_last)
                                on:change:target=move |e| { let last = e.target().checked(); change(&|f| f.channels_last = last) }/>
                            "Channels last (N × H × W × C)"
                        </label>
                    </div>
                    <p class="hint">"In this order: resize, crop, times the scale, minus the mean, divided by the deviation; one value, or one for each channel."</p>
                    <button type="button" class="button small" data-testid="preprocessing-reset" disabled=move || !is_changed() on:click=reset>
                        "Reset to the guess"</button>
                </details>
                <p id="preprocessing-wrong" class="wrong" role="status">{known.mistake}</p>
            </div>
        </Show>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imagenet() -> Preprocessing {
        Preprocessing {
            resize: Some(256),
            crop: Some([224, 192]),
            channels: Channels::Rgb,
            scale: 1.0 / 255.0,
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
            channels_last: false,
            origin: "standard of ImageNet networks".into(),
        }
    }

    #[test]
    fn preprocessing_in_words() {
        let text = "shorter side 256 · 224 × 192 from the centre · RGB · × 1/255 · − 0.485, 0.456, 0.406 · ÷ 0.229, 0.224, 0.225";
        assert_eq!(words(&imagenet()), text);
        let plain = Preprocessing {
            resize: None,
            crop: None,
            channels: Channels::Grey,
            scale: 1.0,
            mean: vec![0.0],
            std: vec![1.0],
            channels_last: true,
            origin: String::new(),
        };
        assert_eq!(words(&plain), "grey · channels last");
        assert_eq!([scale(0.25), scale(255.0), scale(0.0), scale(-0.5), scale(0.3), scale(1.0)], ["1/4", "255", "0", "-0.5", "0.3", "1"]);
    }

    #[test]
    fn a_form_reads_what_it_shows() {
        for p in [imagenet(), Preprocessing { resize: None, crop: None, mean: vec![0.5], std: vec![0.25], scale: 0.017, ..imagenet() }] {
            assert_eq!(Form::of(&p).read(), Ok(Preprocessing { origin: "edited".into(), ..p }));
        }
    }

    #[test]
    fn nonsense_is_said_and_where_it_is() {
        let with = |field, text: &str| {
            let mut form = Form::of(&imagenet());
            form.set(field, text.into());
            form.read()
        };
        for (field, texts) in [
            (Field::Resize, &["0", "-1", "12.5", "a", "16385", "99999999999999999999"][..]),
            (Field::Crop, &["0", "224 x", "x 224", "1x2x3", "300", "a"]),
            (Field::Scale, &["", "0", "1/0", "NaN", "inf", "1/2/3", "0/0"]),
            (Field::Mean, &["", ",", "1, 2", "1 2 3 4", "a", "inf"]),
            (Field::Std, &["", "0", "1, 0, 1", "-1", "1,1", "NaN"]),
        ] {
            for text in texts {
                let (wrong, why) = with(field, text).expect_err(text);
                assert_eq!(wrong, field, "{text}");
                assert!(why.starts_with(['T', 'A']) && why.ends_with('.'), "{why}");
            }
        }
        assert_eq!(with(Field::Crop, "32").map(|p| p.crop), Ok(Some([32, 32])));
        assert_eq!(with(Field::Crop, " 32x 40 ").map(|p| p.crop), Ok(Some([32, 40])));
        assert_eq!(with(Field::Crop, "").map(|p| p.crop), Ok(None));
        assert_eq!(with(Field::Resize, " ").map(|p| p.resize), Ok(None));
        assert_eq!(with(Field::Mean, "0.5; 0.25 1/8").map(|p| p.mean), Ok(vec![0.5, 0.25, 0.125]));
        assert_eq!(with(Field::Scale, "2/4").map(|p| p.scale), Ok(0.5));
        let grey = Form { channels: Channels::Grey, ..Form::of(&imagenet()) };
        assert_eq!(grey.read().map_err(|e| e.0), Err(Field::Mean));
    }
}
