"""A small MV-HEVC file, as phones and headsets record in stereo: two views in one stream.

No encoder that PyAV brings writes more than one view. The file was made with x265 4.1, built with ENABLE_MULTIVIEW=ON
(--multiview-config, --ctu 16 --qp 34 --bframes 3 --keyint 12 --no-info), from two drawn views, copied into a MOV with
PyAV, and given the boxes that phones write: `lhvC`, parameters of the other view, and `vexu` and `hfov`, how the views
are to be seen.

The base view has one grey level in each frame, and a black square of 16 x 16 pixels in its upper left corner. The
other one has 235 less that level, other colours, and a white square.
"""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path

import numpy as np

__all__ = ["FRAMES", "HEIGHT", "LEVELS", "WIDTH", "write_stereo"]

FRAMES, WIDTH, HEIGHT = 24, 64, 48
LEVELS = np.rint(40 + 160 * (np.arange(FRAMES) % 8) / 7)
"""Luma of the base view, of 16 to 235."""

CONTENT = zlib.decompress(
    base64.b85decode(
        b"c-oCs4NOy46u!4VK+9jjf^{oUpkhIgicV3tSOKw$BEtacRH$u9k=9E4TE(T|Ig61nm1Ho@3<0XiaLxst*)%4?92(SYx{a;GMXhmTQ<teEi"
        b"jkl0+{Xh7IOEGZefOSozVF@h-E;d8LgG@Yaz_OvlOe=GBTp2tvrMN)i1*N>(@-!M<l;6SFBpkvm;~nHGk$1Y2?xo@G$j{*o#3HG9E7;ctq"
        b"S0y28876F|J2^Nt-|s!0$$AQHeCEgaG_<@mZWhM$;Ae*yWOcFM3bW$J?LGb|3C`ck9o+Bq6y%P)E;;pr7R@9ePmKzNKZ0--p9BhJ&&0fnG"
        b"^^#y5k*J2E>UZ$=V6hEqmKu6`?g)*HISk^RA;RtU~a0+Jl-L>6zt#`yg<uT8VpIoo{WFW$S57{S4veg*eEOF5Au)zei+B~ic37D^xx#Syg"
        b"N2FLnk11lq|uKn?m>*dm@FZ-<DN&3>xZ}dPy5W-zysrRZyT`C3;j07%T&QRQ?{WbJOQb-t32RIyS>0h17$9?sk2a3Qc1zJu_v0c<LxT<&U"
        b"5T#DMaO%(1-#_^6VB<9cng*btnYR8kdj5M(<zU9b{D(c@ej8xis49RB@XdD<dcsc*p9nQO?uNuy(agJXm!j6)FL|GRH(89Z+-qoav5s)y4"
        b"N2YXxIxPcMXHyL@{fsk2BB?&)u@2hW!jU}{^QXY$DQ7NUI>Z-B1(1li#+(NMNZM!THXQ>FJ`D`*#LiY|0MvOUHrwKyZ3GhyEl=Y1(YPYsh"
        b"CQ_9a;@<F#B_{_O#OZkS)Sb+H@PZmLI!w4v<-C&C<T)`L~yo4GrPouDlwD<4U-ymS)Nd;RsyfGTZZ7fsFNpLZK_$-9INM(l;L;kJ`bw1g>"
        b"!Nv**`^C8I7P$NJjhe#ttv`Vh#8EHAzVFxDf5?g^eAw<&+5eSR3!&ygy&**a-;k)ROb3TU9cYiG?>Ka#b2^LmGNSMN%=?^Sv~)#%$FU072"
        b"1^aMJ6ak^V^mDM&HdT5P?_rzbi$`GHZWVQ8Y8fbLKT7MtYmNZWVG>_6}zoevjj<62W2Qr5vD}AE&M8bd=X2VweGu%_Ru3|;+C)XF}6kJKC"
        b"*)3DZ8yz=W{qccGFyZT!udA^YS2){zl$SHgm-r}OGgbMxsmdRjtbD=*<s)H@$teX@Rs}b+CvzZ7ed)#d{fCw8Dg&d6ZabA@k~L;FjWu})a"
        b"JSYL3|$ece8`gsxq|j-^Es&n#a53X!YT4?^T4KAQ2x|5=lh$?W;-MqO?HD0O}My!gLNQ`$UT1HiCL59D)ib5{w;YH%AzTU@g}OAc_()&8@"
        b"FQ$@=e}Lew55quGdjk(&>7ml^RD7ULK3(!oPf(1_m;dZgTBu3{jPrnWPwWMhh933`UEc`9h3eL51Kjt2NtoMm;2P8%$-}OGz`@O$@2;GLu"
        b"J%bU<XY7-hahfms?#Gsc7Dx)C0!&Y~~%DLIJ6kzx|9)K()5Ypj%2H=ctl4R-BZUzxJA*W@wU6H`HDY8a~jN7$*C#7l&z2i8oCOJG>XxTBw"
        b"-!J!u~;3#mLfhApqgTlOClE5Vy%vUkGp+2HLT81QwGoB9Eo@q}<0^FaP1CXB>3k$c@wE#FF1LH}^X4&4z4I8%gor4Vvg%|8=&J(#HH6ROL"
        b"u4sus&9H<-qrskuVI4O(ghh}c2&q1K&BN!8Bns3;lCV4>ByP0pciG^XudmdTz6iEbmNLXPU$8-MF^@_i(P~U2L$uXcwtb}j90lVyl~xkJP"
        b"NUn#3e!b4#8663P(S(bN~{#qbz@v3q9ZA6(5Row#yHFoMyNwOj)`PX2#fb)pB(o2O21FOa8e$66Fh!%{3~&!Hmy(1Y~9S0g4k}~Mgsec^d"
        b"s0}uvoBnz!reTfz4ybBqj$-0E-7(&BkKc_`*r?MeLm9h^>^??6V%?kG1J2a?)p<u<o>=;DXN88hh!2v^jI(R;K+2ART2~"
    )
)


def write_stereo(path: Path, *, turned: bool = False) -> Path:
    """Write the file.

    Args:
        path: where to.
        turned: whether its display matrix says that it is to be turned clockwise by a quarter.
    """
    data = bytearray(CONTENT)
    if turned:
        place = data.index(b"tkhd") + 44  # after version and flags, times, id, duration, layer, volume
        struct.pack_into(">9i", data, place, 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path
