"""Distillation: a student learns from a teacher's softened answers (Hinton, Vinyals, Dean 2015, arXiv 1503.02531)."""

import torch
from jaxtyping import Float
from torch.nn import functional as F


def soft_targets(
    student: Float[torch.Tensor, "n classes"], teacher: Float[torch.Tensor, "n classes"], temperature: float
) -> Float[torch.Tensor, ""]:
    """T² KL(p || q), in nats, mean over n images: how far the student's answers are from the teacher's.

    student, teacher: logits z and v [n, classes] for the same images; p = softmax(v / T), q = softmax(z / T).
    temperature: T; the higher, the more the classes count that the teacher thinks unlikely.

    Its gradient by z is T (q - p) / n. For a large T, q - p goes as 1 / T: without the factor T² the gradient would
    vanish beside that of the labels (section 2).

    Differs from the paper: KL(p || q) in place of the cross-entropy of q relative to p; the entropy of p, by which they
    differ, does not depend on the student.
    """
    taught = F.log_softmax(teacher / temperature, 1)
    own = F.log_softmax(student / temperature, 1)
    return F.kl_div(own, taught, reduction="batchmean", log_target=True) * temperature**2
