// UltraRAM: two ports on one clock, each reads or writes; read data stand two cycles after the address.
//
// In synthesis the primitive itself, 4,096 x 72 bits each, since not every tool infers both ports. A port that writes
// keeps its read data. Both ports never write in one cycle.
module uram #(
    parameter int unsigned WIDTH = 72,
    parameter int unsigned WORDS = 4096  // synthesis: at most 4,096
) (
    input  logic                     clk,
    input  logic                     a_enable,
    input  logic                     a_write,
    input  logic [$clog2(WORDS)-1:0] a_address,
    input  logic [        WIDTH-1:0] a_write_data,
    output logic [        WIDTH-1:0] a_read_data,
    input  logic                     b_enable,
    input  logic                     b_write,
    input  logic [$clog2(WORDS)-1:0] b_address,
    input  logic [        WIDTH-1:0] b_write_data,
    output logic [        WIDTH-1:0] b_read_data
);

`ifdef SYNTHESIS

  localparam int unsigned Blocks = (WIDTH + 71) / 72;

  logic [Blocks*72-1:0] a_in, b_in, a_out, b_out;
  assign a_in = (Blocks * 72)'(a_write_data);
  assign b_in = (Blocks * 72)'(b_write_data);
  assign a_read_data = a_out[WIDTH-1:0];
  assign b_read_data = b_out[WIDTH-1:0];

  for (genvar i = 0; i < Blocks; i++) begin : g_block
    URAM288_BASE #(
        .BWE_MODE_A("PARITY_INTERLEAVED"),
        .BWE_MODE_B("PARITY_INTERLEAVED"),
        .OREG_A("TRUE"),
        .OREG_B("TRUE")
    ) block (
        .CLK(clk),
        .SLEEP(1'b0),
        .EN_A(a_enable),
        .RDB_WR_A(a_write),
        .ADDR_A(23'(a_address)),
        .BWE_A(9'h1FF),
        .DIN_A(a_in[72*i+:72]),
        .DOUT_A(a_out[72*i+:72]),
        .RST_A(1'b0),
        .OREG_CE_A(1'b1),
        .OREG_ECC_CE_A(1'b0),
        .INJECT_DBITERR_A(1'b0),
        .INJECT_SBITERR_A(1'b0),
        .EN_B(b_enable),
        .RDB_WR_B(b_write),
        .ADDR_B(23'(b_address)),
        .BWE_B(9'h1FF),
        .DIN_B(b_in[72*i+:72]),
        .DOUT_B(b_out[72*i+:72]),
        .RST_B(1'b0),
        .OREG_CE_B(1'b1),
        .OREG_ECC_CE_B(1'b0),
        .INJECT_DBITERR_B(1'b0),
        .INJECT_SBITERR_B(1'b0),
        .DBITERR_A(),
        .DBITERR_B(),
        .SBITERR_A(),
        .SBITERR_B()
    );
  end

`else

  logic [WIDTH-1:0] cells[WORDS];
  logic [WIDTH-1:0] a_held, b_held;

  always_ff @(posedge clk) begin
    if (a_enable && !a_write) a_held <= cells[a_address];
    if (b_enable && !b_write) b_held <= cells[b_address];
    if (a_enable && a_write) cells[a_address] <= a_write_data;
    else if (b_enable && b_write) cells[b_address] <= b_write_data;
    a_read_data <= a_held;
    b_read_data <= b_held;
    assert (!(a_enable && a_write && b_enable && b_write))
    else $error("uram: both ports write");
  end

`endif

endmodule
