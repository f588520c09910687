"""Commands of the quantised hierarchical VAEs.

python -m qres train with method=qres3m                     # on one CPU thread; the same command resumes
python -m qres train with method=qres34m params.lmb=64 dataset=folder:PATH steps=600000 batch=64 crop=256 device=cuda
torchrun --nproc-per-node 2 -m qres train with method=qres3m batch=8
python -m qres evaluate with method=qres3m dataset=kodak points=16,64
"""

from experiments.family import main

if __name__ == "__main__":
    main("qres", {"method": "qres3m"})
