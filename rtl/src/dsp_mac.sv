// One DSP48E2: p = a * b, or plus the cascaded result of its neighbour. Three registers deep: inputs, product, sum.
//
// In synthesis the primitive itself, since not every tool finds the registers and the cascade in the behaviour.
module dsp_mac #(
    parameter int unsigned A_BITS  = 27,    // at most 27
    parameter int unsigned B_BITS  = 18,    // at most 18
    parameter bit          CASCADE = 1'b0,  // add p_in, which must be the p of another dsp_mac
    parameter bit          SHIFT   = 1'b0   // ... shifted right by 17
) (
    input  logic                     clk,
    input  logic signed [A_BITS-1:0] a,
    input  logic signed [B_BITS-1:0] b,
    input  logic signed [      47:0] p_in,
    output logic signed [      47:0] p,       // for logic
    output logic signed [      47:0] p_out    // for the next dsp_mac
);

`ifdef SYNTHESIS

  // Z: zero, PCIN or PCIN >> 17; Y, X: the product.
  localparam logic [8:0] Opmode = !CASCADE ? 9'b00_000_01_01 : SHIFT ? 9'b00_101_01_01 : 9'b00_001_01_01;

  DSP48E2 #(
      .AREG(1),
      .ACASCREG(1),
      .BREG(1),
      .BCASCREG(1),
      .CREG(0),
      .DREG(0),
      .ADREG(0),
      .MREG(1),
      .PREG(1),
      .OPMODEREG(0),
      .ALUMODEREG(0),
      .INMODEREG(0),
      .CARRYINREG(0),
      .CARRYINSELREG(0),
      .AMULTSEL("A"),
      .USE_MULT("MULTIPLY")
  ) dsp (
      .CLK(clk),
      .A(30'(a)),
      .B(18'(b)),
      .C(48'd0),
      .D(27'd0),
      .PCIN(p_in),
      .P(p),
      .PCOUT(p_out),
      .OPMODE(Opmode),
      .ALUMODE(4'd0),
      .INMODE(5'd0),
      .CARRYIN(1'b0),
      .CARRYINSEL(3'd0),
      .CEA1(1'b0),
      .CEA2(1'b1),
      .CEB1(1'b0),
      .CEB2(1'b1),
      .CEM(1'b1),
      .CEP(1'b1),
      .CEC(1'b0),
      .CED(1'b0),
      .CEAD(1'b0),
      .CECTRL(1'b0),
      .CEALUMODE(1'b0),
      .CEINMODE(1'b0),
      .CECARRYIN(1'b0),
      .RSTA(1'b0),
      .RSTB(1'b0),
      .RSTC(1'b0),
      .RSTD(1'b0),
      .RSTM(1'b0),
      .RSTP(1'b0),
      .RSTCTRL(1'b0),
      .RSTALUMODE(1'b0),
      .RSTINMODE(1'b0),
      .RSTALLCARRYIN(1'b0)
  );

`else

  logic signed [A_BITS-1:0] a_held;
  logic signed [B_BITS-1:0] b_held;
  logic signed [47:0] product;

  always_ff @(posedge clk) begin
    a_held  <= a;
    b_held  <= b;
    product <= 48'(a_held) * 48'(b_held);
    p       <= !CASCADE ? product : SHIFT ? product + (p_in >>> 17) : product + p_in;
  end
  assign p_out = p;

`endif

endmodule
