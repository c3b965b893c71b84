"""The allow-list of CKKS parameters. Pure numbers; nothing else is ever accepted (threats P11).

Security: the sum of all prime sizes stays within the bound of the Homomorphic Encryption Standard
(table 1, classical 128 bits, ternary secret): 109 bits at N = 4096, 218 at N = 8192.

Both presets multiply without rescaling, relinearisation or rotation, so the computing side needs
no key at all, and a ciphertext is only ever read modulo all its primes but the last, which pads.
With scale 2^s a product of an input and a weight has scale 2^2s; a hidden square layer doubles
that and one more weight adds s. What the primes leave above the final scale is the room for the
result itself (`headroom_bits`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from compute.errors import ContextRefused, DepthExhausted

# HE Standard (2018), table 1: largest log2 of the whole modulus for 128-bit classical security.
SECURITY_BOUND_BITS: Mapping[int, int] = MappingProxyType({4096: 109, 8192: 218})
# Standard deviation of SEAL's error distribution (seal::util::global_variables).
ERROR_DEVIATION = 3.2


@dataclass(frozen=True)
class Preset:
    """One set of parameters.

    Attributes:
        name: the id on the wire.
        degree: N, the degree of the polynomial modulus; N/2 patients share a ciphertext.
        prime_bits: sizes of the primes; the last pads and carries no data.
        scale_bits: log2 of the encoding scale of inputs and weights.
        hidden_layers: square layers that fit.
        micros_per_product: measured server time for one weight and one slot, in microseconds
            of one core.
    """

    name: str
    degree: int
    prime_bits: tuple[int, ...]
    scale_bits: int
    hidden_layers: int
    micros_per_product: float

    @property
    def slots(self) -> int:
        """Patients that share one ciphertext."""
        return self.degree // 2

    @property
    def data_bits(self) -> int:
        """Bits of modulus that carry data."""
        return sum(self.prime_bits[:-1])

    @property
    def result_scale_bits(self) -> int:
        """log2 of the scale of a result: 2s for a linear model, 5s behind one square."""
        return 2 * self.scale_bits if self.hidden_layers == 0 else 5 * self.scale_bits

    @property
    def headroom_bits(self) -> int:
        """log2 of the largest result, two bits kept for the sign and for rounding."""
        return self.data_bits - self.result_scale_bits - 2

    @property
    def ciphertext_bytes(self) -> int:
        """Uncompressed size of a fresh ciphertext: two polynomials of 64-bit residues."""
        return 2 * self.degree * (len(self.prime_bits) - 1) * 8

    @property
    def fresh_error(self) -> float:
        """Deviation of one decrypted slot of a fresh symmetric ciphertext, in units of the input.

        The canonical embedding of N independent errors of deviation 3.2 has deviation
        3.2·sqrt(N); measured 1e-4 at N = 4096, s = 21.
        """
        return float(ERROR_DEVIATION * self.degree**0.5 / 2.0**self.scale_bits)


LINEAR = Preset("ckks-n4096-linear/1", 4096, (49, 60), 21, hidden_layers=0, micros_per_product=0.03)
SQUARE = Preset(
    "ckks-n8192-square/1", 8192, (58, 58, 58, 44), 30, hidden_layers=1, micros_per_product=0.1
)
PRESETS: Mapping[str, Preset] = MappingProxyType({each.name: each for each in (LINEAR, SQUARE)})


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ContextRefused: when it is not on the allow-list.
    """
    found = PRESETS.get(name)
    if found is None:
        raise ContextRefused("parameters", "not on the allow-list")
    return found


def preset_for(hidden_layers: int) -> Preset:
    """The smallest preset that is deep enough.

    Raises:
        DepthExhausted: when none is.
    """
    for each in PRESETS.values():
        if each.hidden_layers >= hidden_layers:
            return each
    raise DepthExhausted(f"no parameters on the list reach {hidden_layers} hidden layers")
