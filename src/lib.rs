//! Waterfill compresses neural networks by transform quantization (Young, Zhe, Taubman, Girod, "Transform Quantization for CNN
//! Compression", TPAMI 2021): weights are decorrelated, bits are allocated by rate–distortion theory, coefficients are quantized.
//! The name is the method's heart: reverse water-filling, every layer filled with bits up to one water level `λ`.
//!
//! # The data's way through the house
//!
//! ```text
//! file ─ io ─→ Model ─ transform ─→ coefficients ─ quantize ─→ block curves ─ rate ─→ Allocation
//!                                                                                        │
//!          file ←─ io::skeleton ←─ tensors ←─────────── container (.tq) ←────────────────┘
//!
//! Model ─ graph ─→ Runnable ─ graph::lower ─→ nn::Network ─┐
//!                                                          ├─→ outputs ─ evaluate ─→ Evaluation
//! images ─ data ─→ inputs ─────────────────────────────────┤
//!                                                          └─→ gradients ─ statistics ─→ what errors cost in the output ─→ rate
//!
//! coefficients ─ quantize::trellis ─→ indices ─ entropy ─→ bytes of a layer's section ─→ container
//!                                                            └─ pipeline::settle ─→ what was coded ─→ rate, until the budget is met
//!
//! weights, gradients, curves, Allocation ─ pipeline::figures ─→ a figure of the paper ─ report::plot::figure ─→ a drawing
//!
//! gradients ─ rate::limit ─→ the line that no coder comes below, and how far above it every layer is
//! weights, gradients ─ rate::feedback ─→ what columns are (weights, or kernels' coefficients: transform::intra), their factors, scales and order ─ quantize::feedback ─→ indices ─→ a layer ─ pipeline::matching ─→ the layer once more, for its own inputs, until the budget is spent; its gains, biases of the file
//!
//! Allocation ─ rate::joint ─→ steps of all blocks ─ container ─→ layers ─ evaluate ─→ what they do ─ pipeline::settle ─→ the best
//! ```
//!
//! Every arrow is one module. [`pipeline`] strings them together for two programs: the command line (`src/bin/waterfill/`, a file a command) and the
//! browser's engine ([`worker`]), which answers the page ([`ui`]) in [`worker::messages`]. Data flow one way: the page draws
//! and never computes, the engine computes and never draws.
//!
//! | module | what | compiled with |
//! | --- | --- | --- |
//! | [`io`] | formats, recognised by content; tensors read one at a time; files rebuilt | `core` |
//! | [`statistics`] | second moments of gradients and activations | `core` |
//! | [`transform`] | KLT and ELT across rows, columns or kernels, cosine transforms, both sides; coding gains; linear algebra | `core` |
//! | [`quantize`] | the quantizer of eq. 5, unclipped and trellis-coded ones, error feedback, steps, step search | `core` |
//! | [`rate`] | what errors cost, curves of a layer, convex hulls, Lagrangian allocation, steps chosen together, the limit | `core` |
//! | [`entropy`] | indices to bytes: contexts, probabilities that adapt at two speeds, range coder | `core` |
//! | [`container`] | the `.tq` file; what is whole of a damaged one | `core` |
//! | [`graph`] | the network: from ONNX or a template to operators; batch norms folded | `core` |
//! | [`nn`] | running and differentiating it, one file per family of operators | `core` |
//! | [`data`] | images and labels, and how they become inputs | `core` |
//! | [`evaluate`] | accuracy, agreement, output distortion, PSNR of pictures | `core` |
//! | [`pipeline`] | sessions, which keep the layers that were encoded last, and the way to the budget that was; jobs; layers by their plans, and back; which of several allocations is written; measured curves; figures; promises; pictures to look at; several models | `core` |
//! | [`report`] | what is shown: tables, curves, charts, and what changes from one to the next | always; charts with `plots` |
//! | [`worker`] | messages, the engine's loop, and its jobs, a module each; its second part, loaded by who first needs it | `web` |
//! | [`ui`] | the page, and its conversation with the engine, which is started when somebody begins | `ui` |
//! | [`error`], [`limits`] | one sentence per fault; bounds on what files may ask for | always |
//!
//! # From the paper to the code
//!
//! | Young et al. 2021 | here |
//! | --- | --- |
//! | eq. 5, the quantizer | [`quantize::index`]; not in the paper: [`quantize::trellis`], [`quantize::feedback`] |
//! | Section 4.2, KLT | [`transform::klt`] |
//! | Theorem 3, ELT | [`transform::elt`] |
//! | Fig. 4, both in two dimensions | [`report::plane`], in closed form |
//! | eq. 11, Fig. 3, coding gains; Fig. 5, overheads | [`transform::gain`] |
//! | Section 4.3, storing only what the rank needs | [`transform::Geometry`], and [`rate::hull`]: a pruned row stores no basis |
//! | Section 7.1, transforms on both sides | [`transform::two_sided`], [`rate::curve::Candidate::second`] |
//! | Section 7.2 and Table 6, transforms within kernels | [`transform::intra`], [`transform::dct`] |
//! | Section 5.1, step search, blocks of rows | [`quantize::search`], [`rate::curve`] |
//! | entropy coding of the quantized coefficients | [`entropy`], in a layer's section [`container::layer`] |
//! | eq. 8 and Algorithm 1, allocation | [`rate`]; its multiplier in `src/rate/bisect.rs` |
//! | Figs. 6 and 9, distortion and accuracy against rate, measured | [`pipeline::sweep`] |
//! | Figs. 2, 3, 5, 7 and 8, eq. 5, Section 7.2, Tables 3 and 6, and others, for the model that is open | [`pipeline::figures`], drawn by [`report::plot`] |
//! | Section 3, output distortion `E‖ŷ − y‖²` | [`evaluate`] |
//! | Section 4.2, gradients of `vᵗy` by weights, `C_γγ` | [`nn::Network::gradient`], [`statistics`] |
//! | Section 4.2, output distortion to second order | [`rate::cost`] |
//! | Algorithm 2, distortion measured with one block quantized | [`pipeline::measure`] |
//! | not in the paper: the limit of all coders, by reverse water-filling | [`rate::limit`] |
//! | not in the paper: layers quantized for the inputs that they have in the quantized network | [`pipeline::matching::targets`] |
//! | not in the paper: gain and bias of every output channel, matched on calibration images | [`pipeline::matching`] |

#![cfg_attr(not(all(feature = "core", feature = "ui")), allow(rustdoc::broken_intra_doc_links))]

pub mod error;
pub mod limits;
pub mod report;

#[cfg(feature = "core")]
pub mod container;
#[cfg(feature = "core")]
pub mod data;
#[cfg(feature = "core")]
pub mod entropy;
#[cfg(feature = "core")]
pub mod evaluate;
#[cfg(feature = "core")]
pub mod graph;
#[cfg(feature = "core")]
pub mod io;
#[cfg(feature = "core")]
pub mod nn;
#[cfg(feature = "core")]
pub mod pipeline;
#[cfg(feature = "core")]
pub mod quantize;
#[cfg(feature = "core")]
pub mod rate;
#[cfg(feature = "core")]
pub mod statistics;
#[cfg(all(test, feature = "core"))]
mod testing;
#[cfg(feature = "core")]
pub mod transform;
#[cfg(feature = "ui")]
pub mod ui;
#[cfg(feature = "web")]
pub mod worker;
