"""Commands of the quantised hierarchical VAEs.

python -m qres train with method=qres3m_vr                     # on one CPU thread; the same command resumes
python -m qres train with method=qres34m params.lmb=64 dataset=folder:PATH steps=600000 batch=64 crop=256 device=cuda
torchrun --nproc-per-node 2 -m qres train with method=qres3m_vr batch=8
python -m qres evaluate with method=qres3m_vr dataset=kodak points=16,64
python -m qres compress with method=qres3m_vr params.lmb=64 input=photo.png output=photo.tsr  # files, folders
python -m qres decompress with method=qres3m_vr input=photo.tsr output=photo.png
python -m qres sample with method=qres3m_vr n=4 size=256 temperature=0.7 seed=0 output=sample.png
python -m qres progressive with method=qres3m_vr input=photo.png output=progressive.png
python -m qres bits with method=qres3m_vr input=photo.png output=bits.png  # where the bits go, a map per level
python -m qres preview with method=qres3m_vr input=part.tsr output=preview.png  # a file that is cut, too
python -m qres interpolate with method=qres3m_vr input=a.png,b.png output=interpolate.png
python -m qres inpaint with method=qres3m_vr input=face.png box=0.4,0.4,0.8,0.8 output=inpaint.png
python -m qres pictures with method=qres3m_vr  # samples, progressive decoding, blends, repairs for the paper's figures
python -m qres sizes with method=qres3m_vr points=4,16 dataset=kodak  # against files of the official code
"""

from experiments.family import main

if __name__ == "__main__":
    main("qres")
