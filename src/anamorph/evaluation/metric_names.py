"""The title and a one-line explanation of each measure."""

from __future__ import annotations

import math

from anamorph.metrics.measure import Measure

__all__ = ["GROUPS_IN_ORDER", "arrow", "error_of", "explanation", "number", "title", "value_of"]

GROUPS_IN_ORDER = ("samples", "reconstructions", "latent space", "known factors", "likelihood")

_TITLES = {
    "fid": ("FID", "distance between the distributions of samples and of held-out images"),
    "kid": ("KID", "the same by a kernel, without a bias, but with more noise"),
    "inception_score": ("Inception score", "how sure a classifier is of samples, and over how many classes they spread"),
    "precision": ("Precision", "the share of samples that lie among real images"),
    "recall": ("Recall", "the share of real images that lie among samples"),
    "density": ("Density", "how many real balls a sample lies in; 1 is what real images have"),
    "coverage": ("Coverage", "the share of real images with a sample near them"),
    "diversity": ("Diversity", "the mean distance of two samples, as a share of that of two real images"),
    "copies": ("Copies", "how often a sample lies closer to training images than an unseen one does; 0.5 is as it should be"),
    "reconstruction_mse": ("MSE", "mean squared error of pixels in [-1, 1]"),
    "reconstruction_psnr": ("PSNR", "the same as a signal-to-noise ratio"),
    "image_error": ("|G(E(x)) - x|", "the length of the difference of images"),
    "reconstruction_ssim": ("SSIM", "similarity of structure; 1 for equal images"),
    "reconstruction_ms_ssim": ("MS-SSIM", "similarity of structure over several scales"),
    "feature_distance": ("Feature distance", "how far reconstructions are as the network sees them; about 1 for unlike images"),
    "lpips": ("LPIPS", "a distance of images fitted to human judgements"),
    "fid_of_reconstructions": ("FID of reconstructions", "distance between the distributions of reconstructions and of images"),
    "latent_error": ("|E(G(w)) - w|", "distance between a code and the encoding of its image"),
    "latent_error_relative": ("|E(G(w)) - w|, relative", "as a share of how far codes are from their mean"),
    "codes_found": ("Codes recovered", "the share of sampled codes that the encoder recovers from their image"),
    "ppl": ("Path length", "how far images move per step between two codes"),
    "separability": ("Separability", "uncertainty of classes given linear separators in the latent space; 1 is none"),
    "straightness": ("Straightness", "of interpolations, as the network sees them; 1 is straight"),
    "evenness": ("Evenness", "of their steps; 1 if all are alike"),
    "1nn_accuracy": ("1-NN probe", "held-out images whose nearest code is of their class"),
    "5nn_accuracy": ("5-NN probe", "held-out images whose five nearest codes are mostly of their class"),
    "svm_accuracy": ("Linear SVM probe", "held-out images classified correctly by a linear SVM"),
    "logistic_accuracy": ("Logistic probe", "held-out images classified correctly by a logistic regression"),
    "codes_used": ("Codes in use", "of all codes, by held-out images"),
    "perplexity": ("Perplexity", "the effective number of codes, if all were used equally"),
    "active_units": ("Active units", "numbers of a code that vary with the image"),
    "mig": ("MIG", "by how much one number of a code leads in telling a factor"),
    "dci_disentanglement": ("DCI: disentanglement", "whether each number matters for one factor"),
    "dci_completeness": ("DCI: completeness", "whether one number matters for each factor"),
    "dci_informativeness": ("DCI: informativeness", "the share of factors that forests read"),
    "sap": ("SAP", "by how much one number leads in predicting a factor"),
    "factor_vae": ("FactorVAE score", "how often the number that varies least tells which factor is fixed"),
    "elbo_nats": ("ELBO", "a lower bound of the log-likelihood"),
    "elbo_data": ("ELBO: log p(x | z)", "its first term"),
    "elbo_kl": ("ELBO: KL(q || p)", "what its second term takes away"),
    "iwae": ("IWAE bound", "a tighter lower bound, by importance weights"),
    "nats_exact": ("log p(x)", "the log-likelihood"),
    "nats_bound": ("log p(x), at least", "a lower bound of the log-likelihood"),
    "bits_per_value": ("Bits per value", "what a pixel's colour costs"),
    "nats_per_code": ("Nats per code", "what a code costs under the prior"),
}


def _known(name: str) -> str:
    """Return the longest prefix of a name that has a title."""
    return max((known for known in _TITLES if name == known or name.startswith(f"{known}_")), key=len, default="")


def title(measure: Measure) -> str:
    """Return what a measure is called, with what tells it from its siblings, and its network unless that is the standard
    one.
    """
    known = _known(measure.name)
    words = _TITLES[known][0] if known else measure.name
    rest = measure.name.removeprefix(known).strip("_").replace("_", " ") if known else ""
    network = measure.label.removeprefix(measure.name)
    return f"{words}{', ' + rest if rest else ''}{' ' + network if network else ''}"


def explanation(measure: Measure) -> str:
    known = _known(measure.name)
    return _TITLES[known][1] if known else ""


def arrow(measure: Measure) -> str:
    """Return an arrow in the direction that is better."""
    return {"low": "↓", "high": "↑", "neither": ""}[measure.better]


def number(value: float, error: float | None = None) -> str:
    """Format a value with as many digits as its error leaves significant, or four."""
    if not math.isfinite(value):
        return str(value)
    digits = 4
    if error and math.isfinite(error) and value:
        digits = min(6, max(2, math.floor(math.log10(abs(value) / error)) + 2)) if abs(value) > error else 2
    if abs(value) >= 10**digits:
        return f"{round(value, digits - 1 - math.floor(math.log10(abs(value)))):,.0f}"
    text = f"{value:.{digits}g}"
    return f"{float(text):,}" if "e" in text and abs(value) >= 1e-4 else text


def error_of(measure: Measure) -> str:
    """Format the standard error; empty if there is none."""
    if measure.error is None:
        return ""
    return f" ± {float(f'{measure.error:.2g}'):,.0f}" if measure.error >= 10 else f" ± {measure.error:.2g}"


def value_of(measure: Measure) -> str:
    """Format the value with its standard error and unit."""
    return f"{number(measure.value, measure.error)}{error_of(measure)}{' ' + measure.unit if measure.unit else ''}"
