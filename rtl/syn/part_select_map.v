// For Yosys: a variable part select as a tree of multiplexers over the bits of its index that are not constant.
//
// Yosys's own map (techmap.v) goes through the whole vector first and drops what cannot be reached afterwards, which
// takes minutes for the fetcher's 4,096-bit block of words. The lowest bit of the index chooses first in both.
(* techmap_celltype = "$shiftx" *)
module part_select (A, B, Y);
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter B_WIDTH = 1;
  parameter Y_WIDTH = 1;
  parameter [B_WIDTH-1:0] _TECHMAP_CONSTMSK_B_ = 0;
  parameter [B_WIDTH-1:0] _TECHMAP_CONSTVAL_B_ = 0;

  input [A_WIDTH-1:0] A;
  input [B_WIDTH-1:0] B;
  output [Y_WIDTH-1:0] Y;

  // Position of the varying bit number `which` of the index; B_WIDTH: there are not so many.
  function integer position(input integer which);
    integer at, seen;
    begin
      position = B_WIDTH;
      seen = 0;
      for (at = 0; at < B_WIDTH; at = at + 1) begin
        if (!_TECHMAP_CONSTMSK_B_[at]) begin
          if (seen == which) position = at;
          seen = seen + 1;
        end
      end
    end
  endfunction

  function integer count_varying(input integer last);
    integer at;
    begin
      count_varying = 0;
      for (at = 0; at < last; at = at + 1) if (!_TECHMAP_CONSTMSK_B_[at]) count_varying = count_varying + 1;
    end
  endfunction

  localparam integer Varying = count_varying(B_WIDTH);
  localparam integer P0 = position(0), P1 = position(1), P2 = position(2), P3 = position(3), P4 = position(4);
  localparam integer P5 = position(5), P6 = position(6), P7 = position(7), P8 = position(8), P9 = position(9);
  localparam integer Base = _TECHMAP_CONSTVAL_B_ & _TECHMAP_CONSTMSK_B_;
  // A negative index would have to be told from a large one.
  wire _TECHMAP_FAIL_ = Varying == 0 || Varying > 10 || (B_SIGNED && !_TECHMAP_CONSTMSK_B_[B_WIDTH-1]) ||
      (B_SIGNED && _TECHMAP_CONSTVAL_B_[B_WIDTH-1]);

  // All multiplexers in one vector: the 2^Varying leaves, then level by level half as many parts.
  localparam integer Leaves = Varying > 10 ? 1 : 1 << Varying;
  wire [2*Leaves*Y_WIDTH-1:0] tree;

  genvar level, part;
  generate
    for (part = 0; part < Leaves; part = part + 1) begin : g_leaf
      // The bits of `part` in the places of the varying ones. Past the vector everything is undefined.
      localparam integer Index = Base + (part % 2 << P0) + ((part >> 1) % 2 << P1) + ((part >> 2) % 2 << P2) +
          ((part >> 3) % 2 << P3) + ((part >> 4) % 2 << P4) + ((part >> 5) % 2 << P5) + ((part >> 6) % 2 << P6) +
          ((part >> 7) % 2 << P7) + ((part >> 8) % 2 << P8) + ((part >> 9) % 2 << P9);
      if (Index + Y_WIDTH <= A_WIDTH) assign tree[part*Y_WIDTH+:Y_WIDTH] = A[Index+:Y_WIDTH];
      else if (Index < A_WIDTH) assign tree[part*Y_WIDTH+:Y_WIDTH] = A[A_WIDTH-1:Index];
      else assign tree[part*Y_WIDTH+:Y_WIDTH] = {Y_WIDTH{1'bx}};
    end
    for (level = 1; level <= Varying && Varying <= 10; level = level + 1) begin : g_level
      localparam integer From = 2 * Leaves - (Leaves >> (level - 1)) * 2;
      localparam integer To = 2 * Leaves - (Leaves >> level) * 2;
      localparam integer Bit = level == 1 ? P0 : level == 2 ? P1 : level == 3 ? P2 : level == 4 ? P3 : level == 5 ? P4 :
          level == 6 ? P5 : level == 7 ? P6 : level == 8 ? P7 : level == 9 ? P8 : P9;
      for (part = 0; part < (Leaves >> level); part = part + 1) begin : g_part
        assign tree[(To+part)*Y_WIDTH+:Y_WIDTH] = B[Bit] ?
            tree[(From+2*part+1)*Y_WIDTH+:Y_WIDTH] : tree[(From+2*part)*Y_WIDTH+:Y_WIDTH];
      end
    end
  endgenerate
  assign Y = tree[(2*Leaves-2)*Y_WIDTH+:Y_WIDTH];
endmodule
