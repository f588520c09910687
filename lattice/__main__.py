"""Commands of the lattice family; ``quantizer`` and ``reproduce`` are short for what they stand for.

python -m lattice train with dataset=fashion_mnist quantizer=sparse_lattice
python -m lattice train with dataset=ffhq quantizer=dense_lattice reproduce=True     # one effective epoch, as published
python -m lattice train with dataset=fashion_mnist quantizer=e8 params.lmb=0.4
python -m lattice evaluate with dataset=celeba quantizer=dense_lattice weights=official
python -m lattice calibrate with dataset=fashion_mnist quantizer=sparse_lattice weights=official folder=runs/sparse

Everything else is as for every family: ``python -m lattice COMMAND with method=NAME ...``.
"""

from experiments.family import main

if __name__ == "__main__":
    main("lattice")
