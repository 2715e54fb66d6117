"""SO(n), O(n) and the Lorentz group: matrices that preserve a metric, with irreps inside tensor powers of V.

`algebra` and `weights` hold the Lie algebras and what highest weights say; `tensor_irreps` builds the irreps,
`decomposition` finds them; `tensor_group` is what the three groups share.
"""
