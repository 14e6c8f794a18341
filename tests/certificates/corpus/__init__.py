"""The chains that verifiers are asked about."""

from tests.certificates.corpus import chains, constrained, fields, mutated, names

GROUPS = {
    "Names": names.CASES,
    "Name constraints": constrained.CASES,
    "Usages, validity, other fields": fields.CASES,
    "Chains, keys and signatures": chains.CASES,
}

DAMAGED = mutated.CASES
