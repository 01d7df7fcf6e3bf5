"""Changes in place: of views, by assignment to items, of what the code makes; every frontend, torch's values."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
from qfx.errors import CaptureError
from qfx.frontends import normalize, record_shapes
from qfx.frontends.select import as_module, capture

X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
CODE = {
    "item0": "y[:,0]=0\nreturn y",
    "itemv": "y[:,0]=y[:,1]\nreturn y",
    "mask": "y[y>0.5]=0\nreturn y",
    "maskv": "y[y<0]*=.1\nreturn y",
    "flat": "y.view(-1)[3]=5.\nreturn y",
    "select": "y.select(1,0).zero_()\nreturn y",
    "t": "z=y.mean((2,3))\nz.t().mul_(2)\nreturn z",
    "chunk": "a,b=y.chunk(2,1)\na.add_(b)\nreturn y",
    "chunk2": "a,b=y.chunk(2,1)\na.add_(b)\nreturn a*b+y[:,:4]",
    "split": "a,b=torch.split(y,[3,5],1)\nb.mul_(2)\nreturn y+b.sum(1,keepdim=True)",
    "unbind": "p=y.unbind(1)\np[2].fill_(1)\nreturn y",
    "narrow": "y.narrow(2,1,2).zero_()\nreturn y",
    "perm": "y.permute(0,2,3,1)[...,0]=3\nreturn y",
    "nested": "y[:,1:][:,0].copy_(y[:,0])\nreturn y",
    "none": "y[:,None,0]=2.\nreturn y",
    "ell": "y[...,0,:]=2.\nreturn y",
    "idx": "y[:,[0,2]]=1.\nreturn y",
    "idxt": "y[:,torch.tensor([0,2])]=1.\nreturn y",
    "two": "y[0,0]=0\ny[0,1]=1\ny[:,2,1:3]=y[:,3,1:3]\nreturn y",
    "base_then_view": "v=y[:,0]\ny.mul_(2)\nreturn v",
    "view_both": "v=y[:,0]\nw=y.transpose(1,2)\ny.add_(1)\nv.mul_(3)\nreturn w.sum(2)+v.mean()",
    "relu2": "v=y[:,:4]\nF.relu(v,inplace=True)\nreturn y",
    "clampv": "y[:,0].clamp_(min=0,max=.5)\nreturn y",
    "maskfill2": "y[:,0].masked_fill_(y[:,0]<0,0.)\nreturn y",
    "diag": "z=y.mean((0,1))\nz.diagonal().zero_()\nreturn z",
    "T": "z=y.mean((2,3))\nz.T[0]=1\nreturn z",
    "size": "y[:,:,y.shape[2]//2:]=0\nreturn y",
    "ell_all": "y[...]=1.\nreturn y",
    "scat": "i=torch.zeros(y.shape[0],1,y.shape[2],y.shape[3],dtype=torch.long)\ny.scatter_(1,i,1.)\nreturn y",
    "ifloor": "v=y[:,0]\ny//=2\nreturn v+y[:,1]",
    "ipow": "v=y[:,0]\ny**=2\nreturn v",
    "zeros_add": "p=torch.zeros(8)\np+=2\nreturn y+p.view(1,8,1,1)",
    "zeros_used_twice": "p=torch.zeros(8,1,1)\nz=y+p\np+=1\nreturn z*2+(y+p)",
    "arange": "p=torch.arange(8).float().div_(2)\nreturn y+p.view(8,1,1)",
    "full": "m=torch.full((8,8),2.)\nm[:,0]=1\nm.triu_()\nreturn y.flatten(2).transpose(1,2)@m",
    "local_proxy": "p=torch.zeros(8,1,1)\np+=y.mean()\nreturn y+p",
    "local_proxy2": "p=torch.zeros(8,1,1)\np.add_(y.mean())\nq=p*2\nreturn y+q+p",
    "local_item": "p=torch.zeros(8)\np[0]=y.mean()\np[3]=2\nreturn y+p.view(8,1,1)",
    "local_maskfill": "m=torch.ones(8,1,1)\nm.masked_fill_(y.mean((0,2,3)).view(8,1,1)>0,0.)\nreturn y*m",
    "empty": "o=torch.empty(y.shape[0],16,y.shape[2],y.shape[3])\no[:,:8]=y\no[:,8:]=y*2\nreturn o",
    "boolm": "m=torch.ones(8,8,dtype=torch.bool)\nm=m.tril_()\nm[0]=True\nreturn y.flatten(2).transpose(1,2)@m.float()",
    "loop": "for i in range(0,8,2):\n    y[:,i]=y[:,i+1]*.5\nreturn y",
    "rope": "o=torch.empty_like(y)\no[:,0::2]=-y[:,1::2]\no[:,1::2]=y[:,0::2]\nreturn y*.5+o",
    "augview": "y[:,0]+=y[:,1]\ny[:,2]*=3\ny[:,3]-=1\ny[:,4]/=2\nreturn y",
    "expandref": "e=y.mean((2,3),keepdim=True)\nz=e.expand(-1,-1,2,2)\ne.add_(1)\nreturn z",
    "squeeze": "z=y.mean((2,3),keepdim=True)\nw=z.squeeze(-1)\nw.add_(1)\nreturn z+w[...,None]",
    "reshape_only": "z=y.reshape(y.shape[0],-1)\nz[:,0]=7\nreturn z",
    "detach": "z=y.detach()\nz[:,0]=1\nreturn y",
    "swap": "a=y[:,0].clone()\ny[:,0]=y[:,1]\ny[:,1]=a\nreturn y",
    "iand": "m=y>0\nm&=y<1\nreturn y*m",
    "fillview": "y[:, :, 0].fill_(0.5)\nreturn y",
    "indexadd": "y.index_add_(1,torch.tensor([1,3]),y[:,:2]*1)\nreturn y",
    "into a part by an expression": "y[:, : y.shape[1] // 2] = y[:, y.shape[1] // 2 :]\nreturn y",
    "written result": "o = torch.empty_like(y)\ntorch.add(y, 1, out=o)\nreturn o",
    "broadcast": "y[:, 0:3] = y.mean(1, keepdim=True)[:1]\nreturn y",
    "swapaxes": "y.swapaxes(1, 2)[0].neg_()\nreturn y",
    "unflatten": "y.unflatten(1, (2, 4))[:, 0].mul_(0.1)\nreturn y",
    "lerp": "y[:, 1].lerp_(y[:, 2], 0.5)\nreturn y",
    "addcmul": "y[:, 1].addcmul_(y[:, 2], y[:, 3], value=0.5)\nreturn y",
    "a view of what the code made": "p = torch.zeros(2, 8, 1)\np[1, 2:4] = y.mean()\nreturn y + p[1].view(8, 1, 1)",
}
"""Bodies of a function of the result of a convolution."""

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]


class Changes(nn.Module):
    """A convolution, and what ``code`` returns of its result."""

    def __init__(self, code: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        names: dict[str, Any] = {"torch": torch, "F": F}
        exec(f"def function(y):\n{textwrap.indent(code, '    ')}", names)
        self.function = names["function"]

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.function(self.conv(x))
        return result


def made(code: str) -> nn.Module:
    torch.manual_seed(0)
    return Changes(code).eval()


def captured(net: nn.Module, form: str) -> nn.Module:
    """``net`` at the Normal level; traced or exported first where ``form`` says so."""
    with torch.no_grad():
        if form == "trace":
            given: Any = torch.jit.trace(net, X)
        elif form == "program":
            given = as_module(torch.export.export(net, (X,), dynamic_shapes=({0: torch.export.Dim.AUTO},)))
        else:
            given = net
    frontend = form if form in ("symbolic", "export") else "auto"
    return normalize(record_shapes(capture(given, frontend=frontend, example=((X,), {}), strict=True), (X,), {}))


@pytest.mark.parametrize("form", ["symbolic", "export", "trace", "program"])
@pytest.mark.parametrize("name", CODE)
def test_a_change_in_place_is_a_new_value(name: str, form: str) -> None:
    net = made(CODE[name])
    found = captured(net, form)
    with torch.no_grad():
        for x in (X, X.flip(0, 1), X[:2] if form != "trace" else X):
            wanted = net(x.clone())
            for _ in range(2):  # nothing of the graph's own is changed
                torch.testing.assert_close(found(x.clone()), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["item0", "chunk2", "zeros_used_twice", "local_item", "full"])
def test_the_quantized_model_has_it(name: str) -> None:
    net = made(CODE[name])
    quantized = qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, [X])
    with torch.no_grad():
        wanted = net(X)
        assert (quantized(X) - wanted).norm() < 0.03 * wanted.norm()


REFUSED = {
    "whether flatten copies": ("y.flatten(1)[:, 0] = 0\nreturn y", "flatten"),
    "whether reshape copies": ("y.reshape(-1).mul_(2)\nreturn y", "reshape"),
    "overlapping windows": ("y.unfold(2, 2, 1)[:, 0].mul_(2)\nreturn y", "unfold"),
}


@pytest.mark.parametrize("form", ["symbolic", "export", "trace"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_function_is_refused_by_name(name: str, form: str) -> None:
    code, construct = REFUSED[name]
    with pytest.raises(CaptureError, match=rf"in place.*{construct}"):
        captured(made(code), form)


class Model(nn.Module):
    """A parameter, a buffer and a tensor that are the model's."""

    def __init__(self, name: str, change: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.weight = nn.Parameter(torch.ones(3))
        self.register_buffer("shift", torch.ones(3))
        self.table = torch.ones(3)
        names: dict[str, Any] = {}
        exec(f"def function(t, y):\n    {change}", names)
        self.name, self.function = name, names["function"]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        with torch.no_grad():
            self.function(getattr(self, self.name), y)
        return y * getattr(self, self.name).view(3, 1, 1)


@pytest.mark.parametrize("form", ["symbolic", "export"])
@pytest.mark.parametrize("change", ["t.add_(y.mean())", "t[0] = y.mean()", "t.view(-1)[1:].mul_(y.mean())"])
@pytest.mark.parametrize("name", ["shift", "table"])
def test_what_is_the_models_is_refused(name: str, change: str, form: str) -> None:
    with pytest.raises(CaptureError):
        captured(Model(name, change).eval(), form)
